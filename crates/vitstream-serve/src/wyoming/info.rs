//! The description of the voices for Home Assistant.

use serde_json::{Value, json};

use super::frame::Event;
use crate::voices::Description;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The available voices only.
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
        // Shown by Home Assistant.
        "description": voice.name,
        "version": Value::Null,
    })
}
