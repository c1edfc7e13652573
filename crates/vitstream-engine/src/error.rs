//! Errors of loading and of calls.

/// Errors of the engine. All problems of a network are found by the constructors; calls fail only because of
/// their arguments.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A tensor's length or a layer's shape disagrees with its neighbours.
    #[error("{layer}: expected {expected}, found {found}")]
    Shape {
        /// The layer, named as upstream names its module.
        layer: String,
        /// The expected value.
        expected: String,
        /// The value in the specification.
        found: String,
    },
    /// A weight is infinite or not a number.
    #[error("{layer}: element {index} is {value}; every weight must be finite")]
    NonFiniteWeight {
        /// The layer, named as upstream names its module.
        layer: String,
        /// Flat index into the tensor.
        index: usize,
        /// The invalid value.
        value: f32,
    },
    /// A size exceeds the engine's limits.
    #[error("{layer}: {what} is {found}, the engine accepts {accepted}")]
    Limit {
        /// The layer, named as upstream names its module.
        layer: String,
        /// The quantity.
        what: &'static str,
        /// Its value.
        found: usize,
        /// The accepted range, in words.
        accepted: &'static str,
    },
    /// The processor, or this build, lacks the requested instruction set.
    #[error("instruction set {0} is not available here; use Isa::Auto")]
    Isa(&'static str),
    /// An input of a call has the wrong size or content.
    #[error("{what}: expected {expected}, found {found}")]
    Input {
        /// The argument.
        what: &'static str,
        /// The expected value.
        expected: String,
        /// The value found.
        found: String,
    },
    /// The caller requested a stop.
    #[error("stopped by the caller before the end")]
    Stopped,
    /// `push` or `finish` after `finish`.
    #[error("the stream is finished; open another with Decoder::stream")]
    Finished,
    /// The network's sums overflow: a sample is infinite or not a number.
    #[error(
        "sample {sample} is not a number: the weights are damaged, or the scales are far beyond those that the voice was trained for"
    )]
    NotANumber {
        /// Index from the start of the utterance.
        sample: usize,
    },
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// The requested number.
        threads: usize,
        /// The system's reason.
        reason: String,
    },
}

pub(crate) fn shape(layer: &str, expected: impl ToString, found: impl ToString) -> Error {
    Error::Shape { layer: layer.to_owned(), expected: expected.to_string(), found: found.to_string() }
}

pub(crate) fn input(what: &'static str, expected: impl ToString, found: impl ToString) -> Error {
    Error::Input { what, expected: expected.to_string(), found: found.to_string() }
}
