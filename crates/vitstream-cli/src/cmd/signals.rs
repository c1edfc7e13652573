//! Handles signals that end the process, so that nothing half-written is left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use vitstream::staging;

type Hook = Box<dyn FnMut() + Send>;

static HOOKS: Mutex<Vec<Hook>> = Mutex::new(Vec::new());

static FLAG: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// Runs `hook` before a signal ends the process.
pub(crate) fn before_the_end(hook: impl FnMut() + Send + 'static) {
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
}

/// Lets the first signal set `flag`, for work that ends by itself; a second one ends the process.
#[cfg(any(feature = "batch", feature = "serve"))]
pub(crate) fn finish_first(flag: Arc<AtomicBool>) {
    *FLAG.lock().unwrap_or_else(PoisonError::into_inner) = Some(flag);
}

/// Returns true if a signal ends the process now.
fn ends() -> bool {
    if let Some(flag) = FLAG.lock().unwrap_or_else(PoisonError::into_inner).take() {
        flag.store(true, Ordering::Relaxed);
        return false;
    }
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().for_each(|hook| hook());
    staging::abandon()
}

/// Watches for the signals that end programs. Signals that the parent process ignores stay ignored.
#[cfg(unix)]
pub(crate) fn watch() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    let ignored = ignored();
    let signals: Vec<i32> =
        [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0).collect();
    let mut signals = Signals::new(signals).context("cannot watch for signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if ends() {
                // The shell sees that a signal ended the process.
                let _ = emulate_default_handler(signal);
            }
        }
    });
    Ok(())
}

/// The set of ignored signals, if the system reports it: `nohup` and shells ignore some for their children.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(not(unix))]
pub(crate) fn watch() -> Result<()> {
    ctrlc::set_handler(|| {
        if ends() {
            std::process::exit(130);
        }
    })
    .context("cannot watch for Ctrl-C")
}
