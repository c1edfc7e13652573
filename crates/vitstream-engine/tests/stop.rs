//! Stopping an utterance.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::tiny;
use common::voice;
use vitstream_engine::{DrawsFrom, Encoder, Error, Options, Scales};

/// Stopped at any possible point, the encoder ends at that point; the next utterance is unaffected.
#[test]
fn the_encoder_stops_between_its_layers() {
    let model = voice::load(&tiny("multi.ckpt").expect("committed"));
    let threads = if cfg!(feature = "threads") { 2 } else { 1 };
    let encoder = Encoder::new(&voice::encoder(&model), Options::new().threads(threads)).unwrap();
    let scales = Scales { noise: 0.667, length: 1.0, noise_w: 0.8 };
    let encode = |stop: &(dyn Fn() -> bool + Sync)| {
        encoder.encode_unless(&[1, 2, 3, 4], Some(1), scales, DrawsFrom::Seed(1), stop)
    };
    let expected = encoder.encode(&[1, 2, 3, 4], Some(1), scales, DrawsFrom::Seed(1)).unwrap();
    let asked = AtomicUsize::new(0);
    let count = || {
        asked.fetch_add(1, Ordering::Relaxed);
        false
    };
    assert_eq!(encode(&count).unwrap(), expected);
    let chances = asked.load(Ordering::Relaxed);
    assert!(chances > 2, "{chances} for the layers, the durations and the alignment");
    for last in 0..chances {
        let asked = AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) == last;
        assert_eq!(encode(&stop).unwrap_err(), Error::Stopped);
        assert_eq!(asked.load(Ordering::Relaxed), last + 1);
    }
    assert_eq!(encode(&|| false).unwrap(), expected);
}
