//! Options for computing a network.

use crate::conv::Mode;
use crate::kernels::Isa;

/// Options for a [`Decoder`](crate::Decoder) or an [`Encoder`](crate::Encoder).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The convolution method of a decoder.
    pub mode: Mode,
    /// The instruction set.
    pub isa: Isa,
    /// Number of threads, 1 to 256. It does not change a single bit of the result. More than one needs the
    /// feature `threads`. On Linux, if there are as many threads as cores that the process may use, each runs
    /// on a core of its own.
    pub threads: usize,
    /// Set if weights that float16 represents exactly are kept as float16, for each convolution all or none
    /// of them. It takes half the memory and does not change a single bit of the result.
    pub half_weights: bool,
}

impl Default for Options {
    /// Winograd's method, the widest instruction set, one thread, weights as float32.
    fn default() -> Self {
        Self { mode: Mode::default(), isa: Isa::default(), threads: 1, half_weights: false }
    }
}

impl Options {
    /// The same as [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the convolution method of a decoder.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the instruction set.
    pub fn isa(mut self, isa: Isa) -> Self {
        self.isa = isa;
        self
    }

    /// Sets the number of threads, 1 to 256. It does not change a single bit of the result.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets whether weights that float16 represents exactly are kept as float16. It does not change a single bit of
    /// the result.
    pub fn half_weights(mut self, half_weights: bool) -> Self {
        self.half_weights = half_weights;
        self
    }
}
