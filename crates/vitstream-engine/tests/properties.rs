//! Compares random small networks, with any sizes and any pushes, with naive loops in double precision.

mod common;

use common::naive::{Random, network, reference, sized};
use common::{computed, difference, rounded_decoder, same_bits};
use proptest::prelude::*;
use vitstream_engine::spec::{ConvSpec, DecoderSpec, ResBlockSpec};
use vitstream_engine::{Decoder, Error, Isa, Mode, Options};

const MODES: [Mode; 2] = [Mode::Winograd, Mode::Direct];

fn decode(decoder: &Decoder, z: &[f32], frames: usize, g: Option<&[f32]>, pushes: &[usize]) -> Vec<f32> {
    let mut stream = decoder.stream(g).expect("g fits");
    let (mut samples, mut at, mut sizes) = (Vec::new(), 0, pushes.iter().cycle());
    while at < frames {
        let n = (*sizes.next().expect("a push")).min(frames - at);
        stream.push_strided(&z[at..], frames, n, &mut samples).expect("fits");
        at += n;
        let lag = decoder.look_ahead();
        assert_eq!(samples.len(), at.saturating_sub(lag) * decoder.hop(), "samples lag by {lag} frames");
    }
    stream.finish(&mut samples).expect("not finished");
    assert_eq!(samples.len(), frames * decoder.hop());
    samples
}

/// Compares every instruction set and both modes with `expected`, and all pushes and `threads` with each
/// other.
fn check(
    (spec, g): (DecoderSpec<'static>, Option<Vec<f32>>),
    seed: u64,
    frames: usize,
    pushes: &[usize],
    threads: usize,
) -> Result<(), TestCaseError> {
    let z = Random(seed ^ 1).vec(spec.flow.channels * frames, 1.5);
    let expected = reference(&spec, &z, frames, g.as_deref());
    for mode in MODES {
        let mut widest: Option<Vec<f32>> = None;
        for isa in [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Simd128, Isa::Scalar] {
            let decoder = match Decoder::new(&spec, Options::new().isa(isa).mode(mode).threads(1)) {
                Err(Error::Isa(_)) => continue,
                decoder => decoder.expect("a valid network"),
            };
            let samples = decode(&decoder, &z, frames, g.as_deref(), pushes);
            let difference = difference(&samples, &expected);
            prop_assert!(difference < 1e-4, "{:?} {:?}: {}", isa, mode, difference);
            let whole = decode(&decoder, &z, frames, g.as_deref(), &[frames]);
            prop_assert!(same_bits(&samples, &whole), "{:?} {:?}: pushes of {:?}", isa, mode, pushes);
            widest.get_or_insert(whole);
        }
        // Weights that are computed while they are packed are the same weights.
        let shared = Decoder::new(&computed(&spec), Options::new().threads(threads).mode(mode));
        let shared = shared.expect("a valid network");
        let samples = decode(&shared, &z, frames, g.as_deref(), pushes);
        let same = same_bits(&samples, &widest.expect("the scalar set at least"));
        prop_assert!(same, "{:?}: {} threads", mode, threads);

        // Weights kept as float16 give the same sums if float16 represents them exactly.
        let spec = rounded_decoder(&spec);
        let exact = Decoder::new(&spec, Options::new().mode(mode)).expect("a valid network");
        let exact = decode(&exact, &z, frames, g.as_deref(), &[frames]);
        let options = Options::new().mode(mode).threads(threads).half_weights(true);
        let kept = Decoder::new(&spec, options).expect("a valid network");
        let kept = decode(&kept, &z, frames, g.as_deref(), pushes);
        let same = same_bits(&kept, &exact);
        prop_assert!(same, "{:?}: float16, {} threads, pushes of {:?}", mode, threads, pushes);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_network_in_any_pushes(
        seed in any::<u64>(),
        frames in 1usize..60,
        pushes in prop::collection::vec(1usize..60, 1..5),
        threads in 1usize..4,
    ) {
        check(network(seed), seed, frames, &pushes, threads)?;
    }

    #[test]
    fn damaged_networks_are_refused_or_work(seed in any::<u64>(), damage in 0usize..9, at in any::<prop::sample::Index>()) {
        let (mut spec, g) = network(seed);
        let dec = &mut spec.generator;
        match damage {
            0 => dec.conv_pre.weight.to_mut()[0] = f32::NAN,
            1 => dec.ups[0].stride = 1 << 40,
            2 => dec.ups[0].padding += 1,
            3 => { dec.resblocks.remove(at.index(dec.resblocks.len())); }
            4 => dec.conv_post.kernel = 0,
            5 => dec.conv_pre.dilation = usize::MAX,
            6 => spec.flow.channels += 1,
            7 => dec.conv_pre.groups = 0,
            _ => { dec.ups[0].weight.to_mut().pop(); }
        }
        let decoder = Decoder::new(&spec, Options::default());
        let error = |decoder: &Result<Decoder, Error>| decoder.as_ref().err().map(ToString::to_string);
        prop_assert_eq!(error(&decoder), error(&Decoder::new(&computed(&spec), Options::default())));
        if let Ok(decoder) = decoder {
            // Only a stage with one block fewer for each can still fit.
            prop_assert_eq!(damage, 3);
            let z = vec![0.5; spec.flow.channels * 3];
            decode(&decoder, &z, 3, g.as_deref(), &[3]);
        }
    }
}

proptest! {
    // Naive loops over so many channels are slow.
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn networks_of_as_many_channels_as_real_ones(
        seed in any::<u64>(),
        frames in 1usize..14,
        pushes in prop::collection::vec(1usize..9, 1..5),
        threads in 1usize..4,
    ) {
        check(sized(seed, MIN_CHANNELS), seed, frames, &pushes, threads)?;
    }
}

/// The number of channels from which the engine uses Winograd's method.
const MIN_CHANNELS: usize = 32;

/// The result has the same bits for all pushes and threads.
#[test]
fn thousands_of_chunkings_give_the_same_bits() {
    let random = &mut Random(1);
    let (mut chunkings, mut half) = (0, 0);
    for seed in 0..24 {
        // Two of three networks have enough channels for Winograd's method; they take longer.
        let wide = seed % 3 > 0;
        let (spec, g) = if wide { sized(seed, MIN_CHANNELS) } else { network(seed) };
        let spec = rounded_decoder(&spec);
        let mode = MODES[usize::from(seed % 6 == 0)];
        let mut decoders: Vec<Decoder> = [1, 2, 3]
            .map(|threads| Decoder::new(&spec, Options::new().threads(threads).mode(mode)).expect("fits"))
            .into();
        for threads in [1, 2] {
            let options = Options::new().threads(threads).mode(mode).half_weights(true);
            let decoder = Decoder::new(&spec, options).expect("fits");
            // The product with a mean's factor for three blocks is no longer a float16 number.
            half += usize::from(2 * decoder.half_weights().kept > decoder.half_weights().all);
            decoders.push(decoder);
        }
        let frames = 1 + random.below(if wide { 24 } else { 48 });
        let z = random.vec(spec.flow.channels * frames, 1.5);
        let whole = decode(&decoders[0], &z, frames, g.as_deref(), &[frames]);
        for i in 0..if wide { 60 } else { 180 } {
            let pushes: Vec<usize> = (0..1 + random.below(6)).map(|_| 1 + random.below(frames)).collect();
            let samples = decode(&decoders[i % decoders.len()], &z, frames, g.as_deref(), &pushes);
            assert!(
                same_bits(&samples, &whole),
                "network {seed}, {frames} frames, {mode:?}, pushes of {pushes:?}"
            );
            chunkings += 1;
        }
    }
    assert!(chunkings > 2000);
    assert!(half > 24, "{half} of 48 decoders keep weights as float16");
}

/// Weights that float16 cannot represent, because they are too precise, too large or too small, remain
/// float32.
#[test]
fn what_half_precision_does_not_hold_is_kept_as_it_is() {
    let (spec, g) = sized(4, MIN_CHANNELS);
    let half = Options::new().half_weights(true);
    let decoder = Decoder::new(&spec, half).expect("fits");
    assert!(20 * decoder.half_weights().kept < decoder.half_weights().all, "{:?}", decoder.half_weights());

    let mut spec = rounded_decoder(&spec);
    let all = Decoder::new(&spec, half).expect("fits").half_weights();
    let z = Random(3).vec(spec.flow.channels * 5, 1.0);
    for beyond in [1e5, 65_520.0, 1e-9, 0.1] {
        spec.generator.conv_pre.weight.to_mut()[0] = beyond;
        let [exact, kept] = [Options::new(), half].map(|options| Decoder::new(&spec, options).expect("fits"));
        assert!(kept.half_weights().kept > 0 && kept.half_weights().kept < all.kept);
        assert_eq!(exact.half_weights().kept, 0);
        assert!(kept.weight_bytes() < exact.weight_bytes());
        let [exact, kept] = [exact, kept].map(|decoder| decode(&decoder, &z, 5, g.as_deref(), &[2]));
        assert!(same_bits(&kept, &exact), "{beyond}");
    }
}

/// Finite weights whose sums overflow give an error, and none of the samples, which would be the loudest
/// sound.
#[test]
fn what_is_not_a_number_is_no_sound() {
    let (mut refused, mut spoken) = (0, 0);
    for seed in 0..6 {
        for mode in MODES {
            let (mut spec, g) = if seed % 2 == 0 { network(seed) } else { sized(seed, MIN_CHANNELS) };
            // In the flow gates would hide the overflow, in the generator the last tanh would.
            let huge: &mut [f32] = match seed % 3 {
                0 => spec.generator.conv_pre.weight.to_mut(),
                1 => spec.generator.ups[0].weight.to_mut(),
                _ => match spec.flow.layers.first_mut() {
                    Some(layer) => layer.pre.weight.to_mut(),
                    None => spec.generator.conv_pre.weight.to_mut(),
                },
            };
            huge.iter_mut().enumerate().for_each(|(i, w)| *w = if i % 2 == 0 { 3e38 } else { -3e38 });
            let decoder = Decoder::new(&spec, Options::new().mode(mode)).expect("finite weights");
            // Some end before the first sample is due.
            let frames = 9 + [0, decoder.look_ahead()][usize::from(seed > 3)];
            let z = Random(seed).vec(spec.flow.channels * frames, 2.0);
            let mut out = vec![0.25];
            let mut stream = decoder.stream(g.as_deref()).expect("g fits");
            let result = stream.push(&z, frames, &mut out).and_then(|()| stream.finish(&mut out));
            match result {
                Ok(()) => spoken += 1,
                Err(error) => {
                    assert!(matches!(error, Error::NotANumber { .. }), "{error}");
                    assert!(error.to_string().contains("not a number"), "{error}");
                    assert_eq!(stream.push(&z, frames, &mut out), Err(Error::Finished));
                    refused += 1;
                }
            }
            assert!(out.iter().all(|sample| sample.is_finite()));
            // The memory of a finished stream is reused by the next one.
            drop(stream);
            let quiet = network(seed + 1);
            let decoder = Decoder::new(&quiet.0, Options::new().mode(mode)).expect("fits");
            let z = Random(seed).vec(quiet.0.flow.channels * 5, 1.0);
            decode(&decoder, &z, 5, quiet.1.as_deref(), &[2]);
        }
    }
    assert!(refused > spoken, "{refused} refused, {spoken} spoken");
}

/// Kernels, dilations and branches that are each within bounds, but together would require gigabytes.
#[test]
fn the_rows_of_all_layers_together_are_bounded() {
    let (mut spec, _) = network(3);
    let c = spec.generator.ups[0].c_out;
    let conv = ConvSpec::new(vec![0.0; c * c * 1023], c, c, 1023).with_dilation(1024);
    let block = ResBlockSpec::Two { convs: vec![conv; 64] };
    spec.generator.ups.truncate(1);
    spec.generator.resblocks = vec![block];
    spec.generator.conv_post = ConvSpec::new(vec![0.0; c * 7], 1, c, 7);
    let error = Decoder::new(&spec, Options::default()).expect_err("gigabytes");
    assert!(matches!(error, Error::Limit { .. }) && error.to_string().contains("at most 2^25"), "{error}");
}

#[test]
fn calls_out_of_order_are_refused_and_change_nothing() {
    let (spec, g) = network(5);
    let decoder = Decoder::new(&spec, Options::default()).expect("fits");
    let channels = decoder.channels();
    let z = vec![0.25; channels * 4];
    let mut out = Vec::new();
    let mut stream = decoder.stream(g.as_deref()).expect("fits");
    assert!(stream.finish(&mut out).expect_err("nothing pushed").to_string().contains("at least 1"));
    assert!(stream.push(&z, 0, &mut out).expect_err("zero frames").to_string().contains("frames"));
    assert!(stream.push(&z, 5, &mut out).expect_err("too short").to_string().contains("latent z"));
    let bad = vec![f32::INFINITY; channels];
    assert!(stream.push(&bad, 1, &mut out).expect_err("infinite").to_string().contains("finite"));
    assert!(stream.push_strided(&z, 2, 3, &mut out).is_err(), "a stride below the frames");
    assert!(stream.push_strided(&z, usize::MAX, 1, &mut out).is_err() || channels == 1);
    assert!(out.is_empty() && stream.frames() == 0);
    stream.push(&z, 4, &mut out).expect("fits");
    stream.finish(&mut out).expect("the first time");
    assert_eq!(out.len(), 4 * decoder.hop());
    assert_eq!(stream.push(&z, 4, &mut out), Err(Error::Finished));
    assert_eq!(stream.finish(&mut out), Err(Error::Finished));
    let wrong = vec![0.0; decoder.gin_channels() + 1];
    assert!(decoder.stream(Some(&wrong)).expect_err("another length").to_string().contains("embedding"));
    assert!(Decoder::new(&spec, Options::new().threads(0)).is_err());
}

#[test]
fn memory_does_not_grow_with_the_utterance() {
    let (spec, g) = network(11);
    let decoder = Decoder::new(&spec, Options::default()).expect("fits");
    let mut stream = decoder.stream(g.as_deref()).expect("fits");
    let z = vec![0.1; decoder.channels() * 300];
    let mut out = Vec::new();
    stream.push(&z, 300, &mut out).expect("fits");
    stream.push(&z, 300, &mut out).expect("fits");
    let bytes = stream.bytes();
    for _ in 0..20 {
        out.clear();
        stream.push(&z, 300, &mut out).expect("fits");
    }
    assert_eq!(stream.bytes(), bytes);
}
