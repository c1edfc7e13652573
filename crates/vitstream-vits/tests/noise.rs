//! The noise drawn by an encoder: it must be normal, independent, and follow the seed.

mod support;

use support::{Array, Fixture, Net, by_name};
use vitstream_onnx::Graph;
use vitstream_vits::{NoiseSource, SynthesizerTrn};

/// Deviation from the expected value, in standard errors. Seeded draws stay within it, and unseeded ones
/// exceed it once in a billion runs.
const SIGMAS: f64 = 6.0;

fn internal(model: &SynthesizerTrn, seed: Option<u32>) -> Graph {
    model.emit_encoder(15, NoiseSource::Internal { seed }).unwrap()
}

/// The graph with the draws of its random nodes as further outputs.
fn with_draws(mut graph: Graph) -> Graph {
    let draws = graph.nodes.iter().filter(|node| node.op.starts_with("Random"));
    let draws: Vec<_> = draws.flat_map(|node| node.outputs.iter().flatten().copied()).collect();
    graph.outputs.extend(draws);
    graph
}

/// Two long, slow items.
fn feeds(model: &SynthesizerTrn, ids: usize) -> Vec<(&'static str, Array)> {
    let input: Vec<i64> = (0..2 * ids).map(|i| (i * 7 % model.hparams.num_symbols) as i64).collect();
    let mut feeds = vec![
        ("input", Array::i64(&[2, ids], &input)),
        ("input_lengths", Array::i64(&[2], &[ids as i64; 2])),
        ("scales", Array::f32(&[3], vec![0.7, 4.0, 0.8])),
    ];
    if model.hparams.multi_speaker() {
        feeds.push(("sid", Array::i64(&[2], &[0, 1])));
    }
    feeds
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64
}

/// Mean, variance and the share beyond two deviations must be those of the standard normal distribution.
#[track_caller]
fn assert_standard_normal(values: &[f32], what: &str) {
    let n = values.len() as f64;
    assert!(n > 1000.0, "{what}: {n} values tell nothing");
    let mean = mean(values);
    assert!(mean.abs() < SIGMAS / n.sqrt(), "{what}: mean {mean} of {n}");
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    assert!((variance - 1.0).abs() < SIGMAS * (2.0 / n).sqrt(), "{what}: variance {variance} of {n}");
    let share = values.iter().filter(|v| v.abs() > 2.0).count() as f64 / n;
    let expected = 0.0455f64;
    let error = (expected * (1.0 - expected) / n).sqrt();
    assert!((share - expected).abs() < SIGMAS * error, "{what}: {share} beyond two deviations, of {n}");
}

/// Values at equal positions must not be correlated.
#[track_caller]
fn assert_independent(a: &[f32], b: &[f32], what: &str) {
    let n = a.len().min(b.len());
    assert!(n > 500, "{what}: {n} values tell nothing");
    let sum: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    let correlation = sum / n as f64;
    assert!(correlation.abs() < SIGMAS / (n as f64).sqrt(), "{what}: correlation {correlation} of {n}");
}

fn check_draws(name: &str, seed: Option<u32>) {
    let model = Fixture::committed(name).model();
    let encoder = Net::new(with_draws(internal(&model, seed)));
    let feeds = feeds(&model, 600);
    let run = || {
        let mut outputs = encoder.run(by_name(&feeds));
        let draws = outputs.split_off(outputs.len() - if model.hparams.use_sdp() { 2 } else { 1 });
        (outputs, draws)
    };
    let (outputs, draws) = run();
    let what = |what: &str| format!("{name}, seed {seed:?}: {what}");

    let p = draws.last().unwrap();
    assert_eq!(p.dims, outputs[0].dims);
    assert_standard_normal(p.floats(), &what("noise_p"));
    assert_independent(p.item(0).floats(), p.item(1).floats(), &what("the two items' noise_p"));
    let (even, odd) = (p.slice(1, 0..1), p.slice(1, 1..2));
    assert_independent(even.floats(), odd.floats(), &what("neighbouring channels"));
    assert_independent(p.floats(), &p.floats()[1..], &what("neighbouring frames"));
    if let [dp, p] = &draws[..] {
        assert_eq!(dp.dims, [2, 2, 600]);
        assert_standard_normal(dp.floats(), &what("noise_dp"));
        assert_independent(dp.item(0).floats(), dp.item(1).floats(), &what("the two items' noise_dp"));
        assert_independent(
            dp.slice(1, 0..1).floats(),
            dp.slice(1, 1..2).floats(),
            &what("both halves of noise_dp"),
        );
        assert_independent(dp.floats(), p.floats(), &what("noise_dp and noise_p"));
    }
    if seed.is_none() {
        let (_, again) = run();
        for (first, second) in draws.iter().zip(&again) {
            assert_ne!(first, second, "{}", what("two runs draw the same"));
            assert_independent(first.floats(), second.floats(), &what("two runs"));
        }
    }
}

#[test]
fn draws_are_standard_normal_and_independent() {
    for seed in [None, Some(0), Some(1), Some(1234)] {
        check_draws("multi", seed);
    }
    check_draws("multi-nosdp", None);
}

/// The draws enter z as in upstream: z = m_p + noise * exp(logs_p) * noise_scale, and the durations through
/// `noise_w`.
#[test]
fn what_is_drawn_is_what_is_used() {
    for name in ["multi", "legacy-single", "multi-nosdp"] {
        let model = Fixture::committed(name).model();
        let drawn = Net::new(with_draws(internal(&model, Some(7))));
        let injected = Net::new(model.emit_encoder(15, NoiseSource::Input).unwrap());
        let mut feeds = feeds(&model, 30);
        let outputs = drawn.run(by_name(&feeds));
        let contract = outputs.len() - if model.hparams.use_sdp() { 2 } else { 1 };
        let names: &[&str] = if model.hparams.use_sdp() { &["noise_dp", "noise_p"] } else { &["noise_p"] };
        feeds.extend(names.iter().copied().zip(outputs[contract..].to_vec()));
        let expected = injected.run(by_name(&feeds));
        assert_eq!(outputs[..contract], expected[..], "{name}");
    }
}

#[test]
fn a_seed_decides_the_speech_and_none_does_not() {
    let model = Fixture::committed("multi").model();
    let feeds = feeds(&model, 20);
    let first_run = |seed| Net::new(internal(&model, seed)).run(by_name(&feeds));
    let seeded = first_run(Some(42));
    assert_eq!(seeded, first_run(Some(42)), "two sessions with one seed");
    for other in [Some(0), Some(1), Some(41), Some(43), Some((1 << 24) - 1), None] {
        assert_ne!(seeded, first_run(other), "seed {other:?}");
    }
    assert_ne!(first_run(None), first_run(None), "two sessions without a seed");
}

#[test]
fn scales_of_zero_silence_the_noise() {
    let model = Fixture::committed("multi").model();
    let mut feeds = feeds(&model, 20);
    feeds[2].1 = Array::f32(&[3], vec![0.0, 1.0, 0.0]);
    let encoder = Net::new(internal(&model, None));
    assert_eq!(encoder.run(by_name(&feeds)), encoder.run(by_name(&feeds)));
}
