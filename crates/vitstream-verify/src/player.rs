//! Checks that vitstream's own player accepts the folder: a verified voice must play.
//!
//! All other checks use the files as any client would and share no code with the player. This one plays as
//! `vitstream speak` does: with the native engine, or, for a folder that cannot be read back as a network,
//! with a runtime that runs its graphs; and with that runtime alone.

use std::path::Path;

use vitstream_synth::native::{self, NativeOptions};
use vitstream_synth::{Error, SpeakOptions, Speaker, Voice, VoiceOptions};

use crate::pair::Pair;
use crate::report::{Check, Part, Verdict, not_checked};
use crate::session::Sessions;
use crate::utterance::Utterance;

/// Plays `utterance` natively and through its graphs. `sample_rate` is for a folder that does not state its
/// own.
pub(super) fn plays(
    dir: &Path,
    pair: &Pair,
    sessions: &Sessions,
    utterance: &Utterance,
    sample_rate: Option<u32>,
) -> [Check; 2] {
    let runtime = sessions.options.runtime;
    let names = ["played by the native runtime".to_owned(), format!("played by {runtime}")];
    if !pair.loads() {
        return names.map(|name| not_checked(Part::Files, name, "a required file does not load"));
    }
    let native =
        native_voice(dir, sessions, sample_rate).map(|voice| voice.map(|voice| speak(&voice, utterance)));
    let native = match native {
        Ok(Ok(result)) => result.map_err(|error| error.to_string()),
        Ok(Err(why)) => Ok(format!("not possible, so {runtime} plays instead: {why}")),
        Err(error) => Err(error.to_string()),
    };
    let mut options =
        VoiceOptions::new().runtime(runtime).threads(sessions.options.threads).sample_rate(sample_rate);
    options.library.clone_from(&sessions.options.library);
    options.wall.clone_from(&sessions.options.wall);
    let graphs = Voice::open(dir, &options);
    let graphs = graphs.and_then(|voice| speak(&voice, utterance)).map_err(|error| error.to_string());
    let [a, b] = names;
    [(a, native), (b, graphs)].map(|(name, result)| match result {
        Ok(detail) => Check::new(Part::Files, name, Verdict::Ok, detail),
        Err(problem) => Check::new(Part::Files, name, Verdict::Failed, problem),
    })
}

/// The voice; the inner error is the reason why another runtime must play it.
fn native_voice(
    dir: &Path,
    sessions: &Sessions,
    sample_rate: Option<u32>,
) -> Result<Result<Voice, String>, Error> {
    let options = NativeOptions::new().threads(sessions.options.threads).sample_rate(sample_rate);
    match native::open(dir, &options) {
        Ok(voice) => Ok(Ok(voice)),
        Err(error) if error.is_about_content() => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Speaks with the scales of the voice's JSON.
fn speak(voice: &Voice, utterance: &Utterance) -> vitstream_synth::Result<String> {
    let options = SpeakOptions::new().speaker(utterance.speaker.map(Speaker::Id));
    let samples = voice.synthesize(&utterance.ids, &options)?.len();
    Ok(format!("{utterance}: {samples} samples at {} hertz", voice.info().sample_rate))
}
