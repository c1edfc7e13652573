//! Options for computing a network.

use crate::conv::Mode;
use crate::error::Error;
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
    /// feature `threads`.
    pub threads: usize,
}

impl Default for Options {
    /// Winograd's method, the widest instruction set, one thread.
    fn default() -> Self {
        Self { mode: Mode::default(), isa: Isa::default(), threads: 1 }
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
}

/// The threads of a network; for a single thread, only the caller's own.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    #[cfg(feature = "threads")]
    pool: Option<std::sync::Arc<rayon::ThreadPool>>,
}

impl Workers {
    pub(crate) fn new(threads: usize) -> Result<Self, Error> {
        let refused = |reason: String| Error::Threads { threads, reason };
        if !(1..=256).contains(&threads) {
            return Err(refused("expected 1 to 256".to_owned()));
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
            return pool.install(|| awake::keep(work));
        }
        work()
    }
}

/// Keeps a pool's threads awake while there is work: a task takes about 50 us, as long as waking a thread takes.
#[cfg(feature = "threads")]
mod awake {
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Attempts to find a task before a thread offers its core to others. Without the offer it may hold, for
    /// milliseconds, the core on which the thread with the work was woken as well.
    const ATTEMPTS: usize = 64;

    /// Set when it is dropped, also by a panic.
    struct Done<'a>(&'a AtomicBool);

    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Runs `work` on this thread of a pool; until it ends, the other threads look for its tasks without a pause.
    pub(super) fn keep<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        let this = rayon::current_thread_index();
        let done = AtomicBool::new(false);
        rayon::scope(|threads| {
            for _ in 1..rayon::current_num_threads() {
                // This thread must not wait for itself, should it take the task while it waits for another one.
                threads.spawn(|_| {
                    if rayon::current_thread_index() != this {
                        look(&done);
                    }
                });
            }
            let _done = Done(&done);
            work()
        })
    }

    fn look(done: &AtomicBool) {
        let mut idle = 0;
        while !done.load(Ordering::Relaxed) {
            if rayon::yield_now() == Some(rayon::Yield::Executed) {
                idle = 0;
            } else if idle < ATTEMPTS {
                idle += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}
