//! The threads that share the work of a network.

use crate::error::Error;

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
                let cores = cores::Cores::new(threads);
                let settle = move |i| cores.settle(i);
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                pool.thread_name(name).start_handler(settle).build()
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

/// Returns true if this thread belongs to a pool, so that [`join`] stays in that pool.
pub(crate) fn in_pool() -> bool {
    #[cfg(feature = "threads")]
    return rayon::current_thread_index().is_some();
    #[cfg(not(feature = "threads"))]
    false
}

/// Runs both, at the same time if there are threads.
pub(crate) fn join(a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
    #[cfg(feature = "threads")]
    rayon::join(|| awake::occupied(a), || awake::occupied(b));
    #[cfg(not(feature = "threads"))]
    {
        a();
        b();
    }
}

/// Keeps a pool's threads awake while there is work: a task takes about 50 us, as long as waking a thread takes.
#[cfg(feature = "threads")]
mod awake {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Attempts to find a task before a thread offers its core to others. Without the offer it may hold, for
    /// milliseconds, the core on which the thread with the work was woken as well.
    const ATTEMPTS: usize = 64;

    thread_local! {
        /// Set if this thread has begun work that others wait for. While it waits for a task of its own, the
        /// pool may give it another network's [`look`]; starting that could make two networks wait for each
        /// other.
        static OCCUPIED: Cell<bool> = const { Cell::new(false) };
    }

    /// Calls its function when it is dropped, also by a panic.
    struct AtEnd<F: Fn()>(F);

    impl<F: Fn()> Drop for AtEnd<F> {
        fn drop(&mut self) {
            self.0();
        }
    }

    /// Runs `work`, during which this thread does not [`look`] for other work.
    pub(super) fn occupied<R>(work: impl FnOnce() -> R) -> R {
        let before = OCCUPIED.replace(true);
        let _restore = AtEnd(|| OCCUPIED.set(before));
        work()
    }

    /// Runs `work` on this thread of a pool; until it ends, idle threads look for its tasks without a pause.
    pub(super) fn keep<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        let done = AtomicBool::new(false);
        occupied(|| {
            rayon::scope(|threads| {
                for _ in 1..rayon::current_num_threads() {
                    threads.spawn(|_| look(&done));
                }
                let _done = AtEnd(|| done.store(true, Ordering::Relaxed));
                work()
            })
        })
    }

    fn look(done: &AtomicBool) {
        if OCCUPIED.get() {
            return;
        }
        occupied(|| {
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
        });
    }
}

/// A core for each thread of a pool.
///
/// A call wakes all threads of a pool at about the same time. The system may wake two of them on the same core and
/// move one only after milliseconds, as long as the encoder of a short sentence takes.
#[cfg(all(feature = "threads", target_os = "linux", not(miri)))]
mod cores {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// Number of pools so far. The first thread of a pool has the most work, so that of the next pool begins with
    /// the next core.
    static POOLS: AtomicUsize = AtomicUsize::new(0);

    /// The cores of a pool's threads. Empty if the pool does not take all cores that this process may use: then the
    /// system chooses, which knows better than one process which of them are idle.
    pub(super) struct Cores(Vec<usize>);

    impl Cores {
        pub(super) fn new(threads: usize) -> Self {
            let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
            if allowed.count() as usize != threads {
                return Self(Vec::new());
            }
            let mut cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
            cores.rotate_left(POOLS.fetch_add(1, Ordering::Relaxed) % threads);
            Self(cores)
        }

        /// Moves this thread to the core of the pool's thread `index`.
        pub(super) fn settle(&self, index: usize) {
            let Some(&core) = self.0.get(index) else { return };
            let mut own = CpuSet::new();
            own.set(core);
            // If the system refuses, it chooses the core, which is slower at worst.
            let _ = sched_setaffinity(None, &own);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn threads_as_many_as_cores_have_one_each() {
            let allowed = sched_getaffinity(None).expect("Linux says it").count() as usize;
            let cores = Cores::new(allowed);
            let mut taken = cores.0.clone();
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), allowed);
            let settled = std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    cores.settle(0);
                    sched_getaffinity(None).expect("Linux says it")
                });
                thread.join().expect("no panic")
            });
            // Where the system forbids it, the thread may still run anywhere.
            assert!(settled.is_set(cores.0[0]) && [1, allowed].contains(&(settled.count() as usize)));
            assert!(Cores::new(allowed + 1).0.is_empty());
        }
    }
}

#[cfg(all(feature = "threads", not(all(target_os = "linux", not(miri)))))]
mod cores {
    /// Elsewhere the system chooses the cores.
    pub(super) struct Cores;

    impl Cores {
        pub(super) fn new(_threads: usize) -> Self {
            Self
        }

        pub(super) fn settle(&self, _index: usize) {}
    }
}

#[cfg(all(test, feature = "threads"))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    fn split(depth: usize, leaves: &AtomicUsize) {
        if depth == 0 {
            leaves.fetch_add(1, Ordering::Relaxed);
        } else {
            join(|| split(depth - 1, leaves), || split(depth - 1, leaves));
        }
    }

    /// Whichever thread takes whose tasks: no caller waits forever, even if another one panics.
    #[test]
    fn callers_at_the_same_time_all_come_to_their_end() {
        for threads in [2, 3, 5] {
            let workers = Workers::new(threads).expect("possible");
            let leaves = AtomicUsize::new(0);
            thread::scope(|scope| {
                for caller in 0..8 {
                    let (workers, leaves) = (&workers, &leaves);
                    scope.spawn(move || {
                        for _ in 0..200 {
                            workers.run(|| split(5, leaves));
                        }
                        if caller == 0 {
                            let panic = thread::Builder::new()
                                .spawn_scoped(scope, || workers.run(|| join(|| panic!("on purpose"), || ())))
                                .expect("a thread");
                            assert!(panic.join().is_err());
                        }
                    });
                }
            });
            workers.run(|| split(1, &leaves));
            assert_eq!(leaves.into_inner(), 8 * 200 * 32 + 2, "{threads} threads");
        }
    }
}
