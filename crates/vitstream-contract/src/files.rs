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
/// The text that published voices carry beside their JSON, with their licence.
pub const MODEL_CARD: &str = "MODEL_CARD";
