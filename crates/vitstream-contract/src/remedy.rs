//! What can be done about an error, so that a command line, a server and a library each say it in their own words.

/// What its user can do about an error. The message says what is wrong; this says what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Give the sample rate in hertz.
    SampleRate,
    /// Give hyper-parameters by name; each comes with an example of a value.
    HParams(Vec<(String, String)>),
    /// Name the voice's JSON, or the configuration of its training.
    Config,
    /// Export the voice with its noise as inputs.
    NoiseInput,
    /// Allow weights that are not finite.
    AllowNan,
    /// Allow the file more memory.
    Memory,
}
