//! Names of the files that an export writes.

/// Ids to the prior sample.
pub const ENCODER: &str = "encoder.onnx";
/// The prior sample to audio, whole or in windows.
pub const DECODER: &str = "decoder.onnx";
/// The prior sample to audio, chunk by chunk with carried state.
pub const STREAM_DECODER: &str = "decoder.stream.onnx";
/// The voice's JSON.
pub const CONFIG: &str = "config.json";
/// The voice's JSON for clients that look for it beside [`ENCODER`].
pub const ENCODER_CONFIG: &str = "encoder.onnx.json";
/// Ids to audio, in one graph.
pub const VOICE: &str = "voice.onnx";
/// The voice's JSON beside [`VOICE`].
pub const VOICE_CONFIG: &str = "voice.onnx.json";
/// Symbols and ids, as sherpa-onnx reads them.
pub const TOKENS: &str = "tokens.txt";

/// Whether an export may have written a file of this name.
pub fn is_one(name: &str) -> bool {
    let fixed = [ENCODER, DECODER, STREAM_DECODER, CONFIG, ENCODER_CONFIG, VOICE, VOICE_CONFIG, TOKENS];
    // A client's archive is named after the voice.
    fixed.contains(&name) || name.ends_with(".tar.gz")
}
/// The text that published voices carry beside their JSON, with their licence.
pub const MODEL_CARD: &str = "MODEL_CARD";

/// Says, while it is there, that the files of the folder are being replaced and may be of two voices.
pub const UNFINISHED: &str = ".vitstream-unfinished";
