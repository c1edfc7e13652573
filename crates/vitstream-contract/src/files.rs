//! Names of the files that an export writes.

/// The graph from phoneme ids to the prior sample.
pub const ENCODER: &str = "encoder.onnx";
/// The graph from the prior sample to audio, for a whole utterance or for windows of it.
pub const DECODER: &str = "decoder.onnx";
/// The graph from the prior sample to audio, chunk by chunk with carried state.
pub const STREAM_DECODER: &str = "decoder.stream.onnx";
/// The voice's JSON.
pub const CONFIG: &str = "config.json";
/// The voice's JSON, for clients that look for it next to [`ENCODER`].
pub const ENCODER_CONFIG: &str = "encoder.onnx.json";
/// The graph from phoneme ids to audio.
pub const VOICE: &str = "voice.onnx";
/// The voice's JSON next to [`VOICE`].
pub const VOICE_CONFIG: &str = "voice.onnx.json";
/// Symbols and their ids, in the format of sherpa-onnx.
pub const TOKENS: &str = "tokens.txt";

/// Returns true if an export may have written a file of this name.
pub fn is_one(name: &str) -> bool {
    let fixed = [ENCODER, DECODER, STREAM_DECODER, CONFIG, ENCODER_CONFIG, VOICE, VOICE_CONFIG, TOKENS];
    // A client's archive is named after the voice.
    fixed.contains(&name) || name.ends_with(".tar.gz")
}
/// The description that published voices carry next to their JSON; it states the voice's licence.
pub const MODEL_CARD: &str = "MODEL_CARD";

/// While this file exists, the folder's files are being replaced and may belong to two different voices.
pub const UNFINISHED: &str = ".vitstream-unfinished";
