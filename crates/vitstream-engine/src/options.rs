//! How a network is computed, and by whom.

use crate::conv::Mode;
use crate::error::Error;
use crate::kernels::Isa;

/// How a [`Decoder`](crate::Decoder) or an [`Encoder`](crate::Encoder) computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Which convolution, in a decoder.
    pub mode: Mode,
    /// Which instruction set.
    pub isa: Isa,
    /// Threads, 1 to 256. They change no bit of the result. More than one needs the feature `threads`.
    pub threads: usize,
    /// Whether weights that float16 holds exactly are kept so, those of a convolution all or none. It takes half the
    /// memory and changes no bit of the result.
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

    /// Which convolution, in a decoder.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Which instruction set.
    pub fn isa(mut self, isa: Isa) -> Self {
        self.isa = isa;
        self
    }

    /// Threads, 1 to 256. They change no bit of the result.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Whether weights that float16 holds exactly are kept so. It changes no bit of the result.
    pub fn half_weights(mut self, half_weights: bool) -> Self {
        self.half_weights = half_weights;
        self
    }
}

/// The threads of a network; none but the caller's own for a single one.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    #[cfg(feature = "threads")]
    pool: Option<std::sync::Arc<rayon::ThreadPool>>,
}

impl Workers {
    pub(crate) fn new(threads: usize) -> Result<Self, Error> {
        let refused = |reason: String| Error::Threads { threads, reason };
        if !(1..=256).contains(&threads) {
            return Err(refused("1 to 256 are possible".to_owned()));
        }
        #[cfg(feature = "threads")]
        {
            let pool = (threads > 1).then(|| {
                let name = |i| format!("vitstream-engine-{i}");
                rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build()
            });
            let pool = pool.transpose().map_err(|e| refused(e.to_string()))?;
            Ok(Self { pool: pool.map(std::sync::Arc::new) })
        }
        #[cfg(not(feature = "threads"))]
        if threads == 1 {
            Ok(Self {})
        } else {
            Err(refused("built without the feature `threads`".to_owned()))
        }
    }

    /// Runs `work` where its tasks can be shared.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        #[cfg(feature = "threads")]
        if let Some(pool) = &self.pool {
            return pool.install(work);
        }
        work()
    }
}
