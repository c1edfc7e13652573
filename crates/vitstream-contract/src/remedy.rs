//! What can be done about an error, so that a command line, a server and a library each say it in their own words.

/// What a client's package needs to know of a voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Description {
    /// The language's code.
    Language,
    /// The voice's name.
    Name,
    /// The voice's quality.
    Quality,
}

/// What does not go with every client's package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackageOption {
    /// One graph instead of a pair.
    SingleLayout,
    /// The noise as inputs.
    NoiseInput,
    /// The version of the operator set.
    Opset,
}

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
    /// Change the voice's JSON, or name another one.
    OtherConfig,
    /// Export one graph for the whole voice, for no client in particular.
    SingleGraph,
    /// Allow weights that are not finite.
    AllowNan,
    /// Export the voice with weights in half precision.
    HalfPrecision,
    /// Allow the file more memory.
    Memory,
    /// Give what a client's package needs to know of the voice.
    Describe(Description),
    /// Leave out an option that does not go with a client's package.
    NotForPackage {
        /// The client.
        client: &'static str,
        /// The option.
        option: PackageOption,
    },
}
