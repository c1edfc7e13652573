//! Measures kernels and a voice: `cargo run --release -p vitstream-engine --example measure [VOICE.ckpt
//! [ISA [PART]]]`, where PART is kernels, qualities, slow, voice, half or threads.
//!
//! Prints the GFLOP/s of each convolution shape, next to the peak rate of register multiply-adds measured in
//! the same run; then the times of a decoder of each quality with random weights; and for the voice those of
//! the decoder, streaming in several chunk lengths, and of the encoder. Times are CPU time of the thread,
//! which other work on the machine disturbs less than clock time. The part half compares weights kept as
//! float16 with the same weights as float32. Only the part threads, which measures the gain of a second
//! thread, uses clock time and needs two idle cores.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::naive::Random;
use common::{rounded_decoder, rounded_encoder, shared, voice};
use cpu_time::ThreadTime;
use vitstream_engine::spec::{
    ConvSpec, CouplingSpec, DecoderSpec, FlowSpec, GeneratorSpec, ResBlockSpec, UpSpec, WnSpec,
};
use vitstream_engine::{Decoder, DrawsFrom, Encoder, Isa, Mode, Options, Scales};

/// Median and minimum milliseconds.
fn time(repetitions: usize, mut run: impl FnMut()) -> (f64, f64) {
    let once = |_| {
        let start = ThreadTime::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    };
    median_and_best((0..repetitions).map(once).collect())
}

fn median_and_best(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[0])
}

/// Chains of multiply-adds that fit in registers.
fn peak(isa: Isa) -> f64 {
    const TURNS: usize = 1 << 18;
    let flop = |lanes: usize, chains: usize| (2 * TURNS * lanes * chains) as f64;
    // A variable for each chain: see the crate's `kernels::tile`.
    macro_rules! chains {
        ($lanes:literal $fma:literal $x:ident $($sum:ident)+) => {{
            $(let mut $sum = [1f32; $lanes];)+
            for _ in 0..TURNS {
                $(for s in &mut $sum {
                    *s = if $fma { s.mul_add($x, $x) } else { *s * $x + $x };
                })+
            }
            black_box([$($sum),+])[0][0]
        }};
    }
    fn baseline(x: f32) -> f32 {
        chains!(4 false x a b c d e f g h i j k l)
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn avx512(x: f32) -> f32 {
            chains!(16 true x a b c d e f g h i j k l)
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(x: f32) -> f32 {
            chains!(8 true x a b c d e f g h i j k l)
        }
        if isa == Isa::Avx512 {
            // SAFETY: the caller has a decoder that runs on this instruction set.
            return flop(16, 12) / time(9, || _ = black_box(unsafe { avx512(black_box(0.5)) })).1 / 1e6;
        }
        if isa == Isa::Avx2 {
            // SAFETY: as above.
            return flop(8, 12) / time(9, || _ = black_box(unsafe { avx2(black_box(0.5)) })).1 / 1e6;
        }
    }
    flop(4, 12) / time(9, || _ = black_box(baseline(black_box(0.5)))).1 / 1e6
}

/// A network that is hardly more than twelve equal convolutions.
fn single(channels: usize, kernel: usize, dilation: usize, options: Options) -> Decoder {
    let r = &mut Random(1);
    let conv = |r: &mut Random, c_in: usize, c_out: usize, kernel: usize, dilation: usize| {
        let weight = r.vec(c_out * c_in * kernel, 0.1 / (c_in * kernel) as f32);
        ConvSpec::new(weight, c_out, c_in, kernel).with_dilation(dilation)
    };
    let spec = DecoderSpec {
        flow: FlowSpec { channels: 2, layers: vec![] },
        generator: GeneratorSpec {
            conv_pre: conv(r, 2, 1, 1, 1),
            cond: None,
            ups: vec![UpSpec {
                weight: r.vec(channels * RATE, 0.1).into(),
                bias: None,
                c_in: 1,
                c_out: channels,
                kernel: RATE,
                stride: RATE,
                padding: 0,
            }],
            resblocks: vec![ResBlockSpec::Two {
                convs: (0..12).map(|_| conv(r, channels, channels, kernel, dilation)).collect(),
            }],
            conv_post: conv(r, channels, 1, 1, 1),
        },
    };
    Decoder::new(&spec, options).expect("a valid network")
}

/// Rows a frame in [`single`]: enough for any tile.
const RATE: usize = 64;

fn kernels(options: Options) {
    println!("register multiply-adds: {:.1} GFLOP/s", peak(options.isa));
    for channels in [16, 32, 64, 128, 256] {
        for (kernel, dilation) in [(3, 1), (5, 2), (7, 12), (11, 5)] {
            let rate = |mode| {
                let decoder = single(channels, kernel, dilation, options.mode(mode));
                let frames = (14 * 2048 / channels / kernel / 7).max(1);
                let z = vec![0.1; 2 * frames];
                let mut out = Vec::new();
                let mut stream = decoder.stream(None).expect("no speakers");
                // Until the last of the convolutions has rows to work on at every push.
                while out.len() < RATE * frames {
                    out.clear();
                    stream.push(&z, frames, &mut out).expect("fits");
                }
                let flop = 2.0 * 12.0 * (RATE * frames * channels * channels * kernel) as f64;
                let (_, best) = time(9, || {
                    out.clear();
                    stream.push(&z, frames, &mut out).expect("fits");
                });
                flop / best / 1e6
            };
            println!(
                "{channels:4} channels, k {kernel:2}, d {dilation:2}: direct {:6.1}, Winograd {:6.1} GFLOP/s",
                rate(Mode::Direct),
                rate(Mode::Winograd)
            );
        }
    }
}

/// The dimensions by which the decoders of the qualities differ.
struct Quality {
    name: &'static str,
    inter_channels: usize,
    initial_channels: usize,
    /// Rates and kernels of the up-sampling.
    ups: &'static [(usize, usize)],
    /// Kernels and dilations of the residual blocks.
    resblocks: [(usize, &'static [usize]); 3],
    /// `ResBlock1`.
    pairs: bool,
}

/// Upstream's `--quality` settings.
const QUALITIES: [Quality; 3] = [
    Quality {
        name: "x-low",
        inter_channels: 96,
        initial_channels: 256,
        ups: &[(8, 16), (8, 16), (4, 8)],
        resblocks: [(3, &[1, 2]), (5, &[2, 6]), (7, &[3, 12])],
        pairs: false,
    },
    Quality {
        name: "medium",
        inter_channels: 192,
        initial_channels: 256,
        ups: &[(8, 16), (8, 16), (4, 8)],
        resblocks: [(3, &[1, 2]), (5, &[2, 6]), (7, &[3, 12])],
        pairs: false,
    },
    Quality {
        name: "high",
        inter_channels: 192,
        initial_channels: 512,
        ups: &[(8, 16), (8, 16), (2, 4), (2, 4)],
        resblocks: [(3, &[1, 3, 5]), (7, &[1, 3, 5]), (11, &[1, 3, 5])],
        pairs: true,
    },
];

/// A decoder of random weights, and the multiply-adds of a frame.
fn random(quality: &Quality) -> (DecoderSpec<'static>, usize) {
    let r = &mut Random(1);
    let mut work = 0;
    let mut conv = |rate: usize, c_in: usize, c_out: usize, kernel: usize, dilation: usize| {
        work += rate * c_in * c_out * kernel;
        let weight = r.vec(c_out * c_in * kernel, 1.0 / ((c_in * kernel) as f32).sqrt());
        ConvSpec::new(weight, c_out, c_in, kernel).with_dilation(dilation)
    };
    let hidden = quality.inter_channels;
    let layers = (0..4).map(|_| CouplingSpec {
        pre: conv(1, hidden / 2, hidden, 1, 1),
        wn: WnSpec {
            in_layers: (0..4).map(|_| conv(1, hidden, 2 * hidden, 5, 1)).collect(),
            res_skip_layers: (0..4)
                .map(|l| conv(1, hidden, hidden * if l < 3 { 2 } else { 1 }, 1, 1))
                .collect(),
            cond_layer: None,
        },
        post: conv(1, hidden, hidden / 2, 1, 1),
    });
    let flow = FlowSpec { channels: hidden, layers: layers.collect() };
    let conv_pre = conv(1, hidden, quality.initial_channels, 7, 1);
    let (mut rate, mut channels) = (1, quality.initial_channels);
    let (mut ups, mut resblocks) = (Vec::new(), Vec::new());
    for &(stride, kernel) in quality.ups {
        let weight = conv(rate, channels, channels / 2, kernel, 1).weight;
        let padding = (kernel - stride) / 2;
        ups.push(UpSpec { weight, bias: None, c_in: channels, c_out: channels / 2, kernel, stride, padding });
        rate *= stride;
        channels /= 2;
        for (kernel, dilations) in quality.resblocks {
            let mut convs = |dilation: Option<usize>| {
                dilations
                    .iter()
                    .map(|&d| conv(rate, channels, channels, kernel, dilation.unwrap_or(d)))
                    .collect()
            };
            resblocks.push(if quality.pairs {
                ResBlockSpec::One { convs1: convs(None), convs2: convs(Some(1)) }
            } else {
                ResBlockSpec::Two { convs: convs(None) }
            });
        }
    }
    let conv_post = conv(rate, channels, 1, 7, 1);
    let generator = GeneratorSpec { conv_pre, cond: None, ups, resblocks, conv_post };
    (DecoderSpec { flow, generator }, work)
}

fn qualities(options: Options) {
    let total = 310;
    for quality in &QUALITIES {
        let (spec, work) = random(quality);
        for mode in [Mode::Direct, Mode::Winograd] {
            let decoder = Decoder::new(&spec, options.mode(mode)).expect("a valid network");
            let z = Random(2).vec(total * decoder.channels(), 1.0);
            let rate = |chunk: usize| {
                let (_, best) = time(5, || {
                    let mut out = Vec::new();
                    let mut stream = decoder.stream(None).expect("no speakers");
                    for at in (0..total).step_by(chunk) {
                        let n = chunk.min(total - at);
                        stream.push_strided(&z[at..], total, n, &mut out).expect("fits");
                    }
                    stream.finish(&mut out).expect("once");
                });
                2.0 * (work * total) as f64 / best / 1e6
            };
            let (whole, chunks) = (rate(total), rate(16));
            println!("{} {mode:?}: {whole:.1} GFLOP/s, by 16 frames {chunks:.1}", quality.name);
            let rows = decoder.stream(None).expect("no speakers").bytes() as f64 / 1e6;
            let (field, ahead) = (decoder.receptive_field(), decoder.look_ahead());
            println!("  {rows:.1} MB of rows, receptive field {field}, look-ahead {ahead} frames");
        }
    }
}

/// Measures the time of a network whose weights decayed to denormal numbers in training, with products of
/// tiny numbers, and with silence, each as a ratio to the normal time.
fn slow_numbers(options: Options) {
    let frames = 861;
    let take = |spec: &DecoderSpec<'_>, z: &[f32]| {
        let decoder = Decoder::new(spec, options).expect("a valid network");
        let (_, best) = time(5, || {
            let mut out = Vec::new();
            let mut stream = decoder.stream(None).expect("no speakers");
            stream.push(z, frames, &mut out).expect("fits");
            stream.finish(&mut out).expect("once");
        });
        best
    };
    let (spec, _) = random(&QUALITIES[0]);
    let z = Random(2).vec(frames * spec.flow.channels, 1.0);
    let normal = take(&spec, &z);
    println!(
        "ten seconds of x-low: {normal:.1} ms; silence {:.2}",
        take(&spec, &vec![0.0; z.len()]) / normal
    );
    for factor in [1e-39, 1e-20, 1e-12] {
        let mut spec = spec.clone();
        for block in &mut spec.generator.resblocks {
            if let ResBlockSpec::Two { convs } = block {
                let weights = convs.iter_mut().flat_map(|conv| conv.weight.to_mut());
                weights.for_each(|weight| *weight *= factor);
            }
        }
        let quiet: Vec<f32> = z.iter().map(|v| v * factor).collect();
        let (weights, both) = (take(&spec, &z), take(&spec, &quiet));
        println!("  weights times {factor:e}: {:.2}, latent too: {:.2}", weights / normal, both / normal);
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().map(PathBuf::from).or_else(|| shared("joe/joe.ckpt"));
    let asked = args.next();
    let isa = [Isa::Auto, Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Simd128, Isa::Scalar]
        .into_iter()
        .find(|isa| asked.as_deref() == Some(isa.name()))
        .unwrap_or_default();
    let isa = single(16, 3, 1, Options::new().isa(isa)).isa();
    println!("instruction set: {}", isa.name());
    let part = args.next();
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let options = Options::new().isa(isa);
    for (name, measure) in [
        ("kernels", kernels as fn(Options)),
        ("qualities", qualities as fn(Options)),
        ("slow", slow_numbers as fn(Options)),
    ] {
        if wanted(name) {
            measure(options);
        }
    }
    let Some(path) = path else { return };
    if wanted("voice") {
        measure_voice(&path, isa);
    }
    if wanted("half") {
        half_weights(&path, isa);
    }
    if wanted("threads") {
        second_thread(&path, isa);
    }
}

/// Time to the first audio on one thread and on two, turn by turn.
fn second_thread(path: &Path, isa: Isa) {
    let model = voice::load(path);
    let halves = [1, 2].map(|threads| {
        let options = Options::default().isa(isa).threads(threads);
        let encoder = Encoder::new(&voice::encoder(&model), options).expect("fits");
        (encoder, Decoder::new(&voice::decoder(&model), options).expect("fits"))
    });
    let scales = Scales { noise: 0.667, length: 1.0, noise_w: 0.8 };
    for n in [69, 309] {
        let ids: Vec<i64> = (0..n).map(|i| 1 + i % (halves[0].0.vocabulary() as i64 - 1).min(100)).collect();
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..41 {
            for ((encoder, decoder), times) in halves.iter().zip(&mut times) {
                let speaker = (encoder.speakers() > 0).then_some(0);
                let start = Instant::now();
                let latent = encoder.encode(&ids, speaker, scales, DrawsFrom::Seed(1)).expect("speaks");
                let mut stream = decoder.stream(latent.g.as_deref()).expect("fits");
                let (begin, mut out) = (latent.frames.min(decoder.look_ahead() + 9), Vec::new());
                stream.push_strided(&latent.z_p, latent.frames, begin, &mut out).expect("fits");
                black_box(&out);
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        let [one, two] = times.map(median_and_best);
        println!(
            "first audio of {n} ids: one thread {:.1} (best {:.1}), two {:.1} ({:.1}) ms: {:.2} times as fast ({:.2})",
            one.0,
            one.1,
            two.0,
            two.1,
            one.0 / two.0,
            one.1 / two.1
        );
    }
}

/// Alternately measures a voice rounded to float16 with its weights kept as float32 and as float16.
fn half_weights(path: &Path, isa: Isa) {
    let model = voice::load(path);
    let (encoder, decoder) =
        (rounded_encoder(&voice::encoder(&model)), rounded_decoder(&voice::decoder(&model)));
    let kept = [false, true].map(|half| {
        let options = Options::new().isa(isa).half_weights(half);
        let (encoder, decoder) =
            (Encoder::new(&encoder, options).expect("fits"), Decoder::new(&decoder, options).expect("fits"));
        let megabytes = |bytes: usize| bytes as f64 / 1e6;
        println!(
            "{}: encoder {:.1} MB, decoder {:.1} MB",
            if half { "float16" } else { "float32" },
            megabytes(encoder.weight_bytes()),
            megabytes(decoder.weight_bytes())
        );
        (encoder, decoder)
    });
    let compare = |what: String, run: &dyn Fn(&(Encoder, Decoder))| {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..21 {
            for (kept, times) in kept.iter().zip(&mut times) {
                times.push(time(1, || run(kept)).0);
            }
        }
        let [single, half] = times.map(median_and_best);
        println!(
            "{what}: float32 {:.2} (best {:.2}), float16 {:.2} ({:.2}) ms: {:.2} times ({:.2})",
            single.0,
            single.1,
            half.0,
            half.1,
            half.0 / single.0,
            half.1 / single.1
        );
    };
    let total = 160;
    let z = Random(2).vec(total * kept[0].1.channels(), 1.0);
    let g = vec![0.1; kept[0].1.gin_channels()];
    let g = (!g.is_empty()).then_some(&g[..]);
    for chunk in [1, 4, 8, 16, 32, 56] {
        let run = |(_, decoder): &(Encoder, Decoder)| {
            let (mut out, mut stream) = (Vec::new(), decoder.stream(g).expect("fits"));
            for at in (0..total).step_by(chunk) {
                let n = chunk.min(total - at);
                stream.push_strided(&z[at..], total, n, &mut out).expect("fits");
            }
            stream.finish(&mut out).expect("once");
        };
        compare(format!("stream of {total} frames by {chunk}"), &run);
    }
    for n in [69, 309, 1383] {
        let ids: Vec<i64> = (0..n).map(|i| 1 + i % (kept[0].0.vocabulary() as i64 - 1).min(100)).collect();
        let scales = Scales { noise: 0.667, length: 1.0, noise_w: 0.8 };
        let run = |(encoder, _): &(Encoder, Decoder)| {
            let speaker = (encoder.speakers() > 0).then_some(0);
            black_box(encoder.encode(&ids, speaker, scales, DrawsFrom::Seed(1)).expect("speaks"));
        };
        compare(format!("encoder, {n} ids"), &run);
    }
}

/// A real voice's halves.
fn measure_voice(path: &Path, isa: Isa) {
    let model = voice::load(path);
    for mode in [Mode::Direct, Mode::Winograd] {
        let options = Options::new().isa(isa).mode(mode).threads(1);
        let mut decoder = None;
        let (load, _) =
            time(3, || decoder = Some(Decoder::new(&voice::decoder(&model), options).expect("fits")));
        let decoder = decoder.expect("made");
        let (bytes, begin) = (decoder.weight_bytes() as f64 / 1e6, decoder.look_ahead() + 9);
        println!(
            "{mode:?}: packed in {load:.0} ms, {bytes:.1} MB, {} frames of look-ahead",
            decoder.look_ahead()
        );
        let total = 621;
        let z = Random(2).vec(total * decoder.channels(), 1.0);
        let g = vec![0.1; decoder.gin_channels()];
        let g = (!g.is_empty()).then_some(&g[..]);
        for (frames, repetitions) in [(16, 41), (32, 31), (total, 9)] {
            let (median, best) = time(repetitions, || {
                let mut out = Vec::new();
                let mut stream = decoder.stream(g).expect("fits");
                stream.push_strided(&z, total, frames, &mut out).expect("fits");
                stream.finish(&mut out).expect("once");
                black_box(&out);
            });
            println!("  decoder, {frames} frames: median {median:.2}, best {best:.2} ms");
        }
        for chunk in [1, 8, 16, 32, 64] {
            let mut first = f64::INFINITY;
            let (median, best) = time(5, || {
                let mut out = Vec::new();
                let mut stream = decoder.stream(g).expect("fits");
                let start = ThreadTime::now();
                let mut at = begin;
                stream.push_strided(&z, total, at, &mut out).expect("fits");
                first = first.min(start.elapsed().as_secs_f64() * 1e3);
                while at < total {
                    let n = chunk.min(total - at);
                    stream.push_strided(&z[at..], total, n, &mut out).expect("fits");
                    at += n;
                }
                stream.finish(&mut out).expect("once");
            });
            println!(
                "  stream of {total} by {chunk}: median {median:.1}, best {best:.1} ms; first push of {begin}: {first:.2} ms"
            );
        }
        let encoder = Encoder::new(&voice::encoder(&model), options).expect("fits");
        let speaker = (encoder.speakers() > 0).then_some(0);
        for (ids, repetitions) in [(69, 15), (309, 11), (1383, 5)] {
            let ids: Vec<i64> =
                (0..ids).map(|i| 1 + i % (encoder.vocabulary() as i64 - 1).min(100)).collect();
            let scales = Scales { noise: 0.667, length: 1.0, noise_w: 0.8 };
            let (median, best) = time(repetitions, || {
                black_box(encoder.encode(&ids, speaker, scales, DrawsFrom::Seed(1)).expect("speaks"));
            });
            println!("  encoder, {} ids: median {median:.2}, best {best:.2} ms", ids.len());
        }
    }
}
