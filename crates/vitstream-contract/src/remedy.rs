//! Remedies for errors, worded by the command line, the server and each library in their own terms.

/// A fact about the voice that a client's package requires.
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

/// An export option that some clients' packages do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackageOption {
    /// One graph instead of a pair.
    SingleLayout,
    /// Noise as graph inputs.
    NoiseInput,
    /// The version of the operator set.
    Opset,
}

/// A remedy for an error. The error message says what is wrong; the remedy says what the user can do about
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Give the sample rate in hertz.
    SampleRate,
    /// Give hyper-parameters by name. Each comes with an example value.
    HParams(Vec<(String, String)>),
    /// Name the voice's JSON, or its training configuration.
    Config,
    /// Export the voice with its noise as inputs.
    NoiseInput,
    /// Change the voice's JSON, or name another one.
    OtherConfig,
    /// Export one graph for the whole voice, without choosing a client.
    SingleGraph,
    /// Allow weights that are not finite.
    AllowNan,
    /// Export the voice with weights in half precision.
    HalfPrecision,
    /// Raise the memory limit for the file.
    Memory,
    /// Give the fact about the voice that a client's package requires.
    Describe(Description),
    /// Leave out an option that a client's package does not allow.
    NotForPackage {
        /// The client.
        client: &'static str,
        /// The option.
        option: PackageOption,
    },
}
