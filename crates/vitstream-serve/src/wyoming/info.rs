//! What Home Assistant is told of the voices.

use serde_json::{Value, json};

use super::frame::Event;
use crate::voices::Description;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Those that can speak now, and nothing that cannot.
pub(super) fn info(voices: &[Description]) -> Event {
    let voices: Vec<Value> = voices.iter().map(voice).collect();
    let program = json!({
        "name": "vitstream",
        "attribution": attribution(),
        "installed": true,
        "description": "Streaming VITS and Piper voices",
        "version": VERSION,
        "supports_synthesize_streaming": true,
        "voices": voices,
    });
    Event::new(
        "info",
        json!({"tts": [program], "asr": [], "handle": [], "intent": [], "wake": [], "mic": [], "snd": []}),
    )
}

fn attribution() -> Value {
    json!({"name": "vitstream", "url": env!("CARGO_PKG_REPOSITORY")})
}

fn voice(voice: &Description) -> Value {
    let speakers: Vec<Value> = voice.speakers.iter().map(|name| json!({"name": name})).collect();
    json!({
        "name": voice.name,
        "languages": [voice.language],
        "speakers": if speakers.is_empty() { Value::Null } else { speakers.into() },
        "attribution": attribution(),
        "installed": true,
        // What Home Assistant shows.
        "description": voice.name,
        "version": Value::Null,
    })
}
