//! Random small networks, any sizes and any pushes, against naive loops in double precision.

mod common;

use common::naive::{Random, network, reference};
use common::{difference, same_bits};
use proptest::prelude::*;
use vitstream_engine::{Decoder, Error, Isa, Mode, Options};

fn decode(decoder: &Decoder, z: &[f32], frames: usize, g: Option<&[f32]>, pushes: &[usize]) -> Vec<f32> {
    let mut stream = decoder.stream(g).expect("g fits");
    let (mut samples, mut at, mut sizes) = (Vec::new(), 0, pushes.iter().cycle());
    while at < frames {
        let n = (*sizes.next().expect("a push")).min(frames - at);
        stream.push_strided(&z[at..], frames, n, &mut samples).expect("fits");
        at += n;
        let lag = decoder.look_ahead();
        assert!(
            samples.len() >= at.saturating_sub(lag) * decoder.hop(),
            "samples lag by more than {lag} frames"
        );
    }
    stream.finish(&mut samples).expect("not finished");
    samples
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_network_in_any_pushes(
        seed in any::<u64>(),
        frames in 1usize..90,
        pushes in prop::collection::vec(1usize..60, 1..5),
        threads in 1usize..4,
    ) {
        let (spec, g) = network(seed);
        let z = Random(seed ^ 1).vec(spec.flow.channels * frames, 1.5);
        let expected = reference(&spec, &z, frames, g.as_deref());
        let mut first: Option<Vec<f32>> = None;
        for isa in [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Simd128, Isa::Scalar] {
            for mode in [Mode::Direct, Mode::Fast] {
                let decoder = match Decoder::new(&spec, Options { isa, mode, threads: 1 }) {
                    Err(Error::Isa(_)) => continue,
                    decoder => decoder.expect("a valid network"),
                };
                let samples = decode(&decoder, &z, frames, g.as_deref(), &pushes);
                prop_assert!(difference(&samples, &expected) < 1e-4, "{:?} {:?}: {}", isa, mode, difference(&samples, &expected));
                if mode == Mode::Direct {
                    let whole = decode(&decoder, &z, frames, g.as_deref(), &[frames]);
                    prop_assert!(same_bits(&samples, &whole), "{:?}: pushes of {:?}", isa, pushes);
                    first.get_or_insert(whole);
                }
            }
        }
        let shared = Decoder::new(&spec, Options { threads, ..Options::default() }).expect("a valid network");
        let samples = decode(&shared, &z, frames, g.as_deref(), &pushes);
        prop_assert!(same_bits(&samples, &first.expect("the scalar set at least")), "{} threads", threads);
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
        if let Ok(decoder) = decoder {
            // Only a stage with one block fewer for each can still fit.
            prop_assert_eq!(damage, 3);
            let z = vec![0.5; spec.flow.channels * 3];
            decode(&decoder, &z, 3, g.as_deref(), &[3]);
        }
    }
}

/// Direct convolution, whatever the pushes and the threads: the same bits.
#[test]
fn thousands_of_chunkings_give_the_same_bits() {
    let random = &mut Random(1);
    let mut chunkings = 0;
    for seed in 0..12 {
        let (spec, g) = network(seed);
        let decoders: Vec<Decoder> = [1, 2, 3]
            .map(|threads| Decoder::new(&spec, Options { threads, ..Options::default() }).expect("fits"))
            .into();
        let frames = 1 + random.below(48);
        let z = random.vec(spec.flow.channels * frames, 1.5);
        let whole = decode(&decoders[0], &z, frames, g.as_deref(), &[frames]);
        for i in 0..200 {
            let pushes: Vec<usize> = (0..1 + random.below(6)).map(|_| 1 + random.below(frames)).collect();
            let samples = decode(&decoders[i % decoders.len()], &z, frames, g.as_deref(), &pushes);
            assert!(same_bits(&samples, &whole), "network {seed}, {frames} frames, pushes of {pushes:?}");
            chunkings += 1;
        }
    }
    assert!(chunkings > 2000);
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
    assert!(Decoder::new(&spec, Options { threads: 0, ..Options::default() }).is_err());
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
