//! What can go wrong at load or at call.

/// Errors of the engine. Everything a network can get wrong is found by the constructors; calls fail only on
/// what is handed to them.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A tensor's length or a layer's shape disagrees with its neighbours.
    #[error("{layer}: expected {expected}, found {found}")]
    Shape {
        /// The layer, named as upstream names its module.
        layer: String,
        /// What would have fitted.
        expected: String,
        /// What the specification holds.
        found: String,
    },
    /// A weight is infinite or not a number.
    #[error("{layer}: element {index} is {value}; every weight must be finite")]
    NonFiniteWeight {
        /// The layer, named as upstream names its module.
        layer: String,
        /// Flat index into the tensor.
        index: usize,
        /// The offending value.
        value: f32,
    },
    /// A size is outside what the engine accepts.
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
    /// The processor (or this build) lacks the instruction set that was asked for.
    #[error("instruction set {0} is not available here; use Isa::Auto")]
    Isa(&'static str),
    /// An input of a call has the wrong size or content.
    #[error("{what}: expected {expected}, found {found}")]
    Input {
        /// The argument.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// The caller asked for an end.
    #[error("stopped before the end, as the caller asked")]
    Stopped,
    /// `push` or `finish` after `finish`.
    #[error("the stream is finished; open another with Decoder::stream")]
    Finished,
    /// The network's sums overflow: a sample is infinite or not a number.
    #[error(
        "sample {sample} is not a number: the weights are damaged, or the scales far beyond those that the voice was trained for"
    )]
    NotANumber {
        /// Counts from the utterance's first.
        sample: usize,
    },
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system answered.
        reason: String,
    },
}

pub(crate) fn shape(layer: &str, expected: impl ToString, found: impl ToString) -> Error {
    Error::Shape { layer: layer.to_owned(), expected: expected.to_string(), found: found.to_string() }
}

pub(crate) fn input(what: &'static str, expected: impl ToString, found: impl ToString) -> Error {
    Error::Input { what, expected: expected.to_string(), found: found.to_string() }
}
