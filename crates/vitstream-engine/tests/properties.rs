//! Random small networks, any sizes and any pushes, against naive loops in double precision.

mod common;

use common::{Random, difference, same_bits};
use proptest::prelude::*;
use vitstream_engine::spec::*;
use vitstream_engine::{Decoder, Error, Isa, Mode, Options};

/// Rows of channels: `x[c][t]`, as PyTorch lays them out.
type Signal = Vec<Vec<f64>>;

fn convolve(x: &Signal, spec: &ConvSpec<'_>) -> Signal {
    let (t, pad) = (x[0].len() as i64, ((spec.kernel - 1) * spec.dilation / 2) as i64);
    let output = |o: usize, i: i64| {
        let mut sum = spec.bias.as_ref().map_or(0.0, |b| f64::from(b[o]));
        for (c, row) in x.iter().enumerate() {
            for k in 0..spec.kernel {
                let at = i + (k * spec.dilation) as i64 - pad;
                if (0..t).contains(&at) {
                    sum += row[at as usize] * f64::from(spec.weight[(o * spec.c_in + c) * spec.kernel + k]);
                }
            }
        }
        sum
    };
    (0..spec.c_out).map(|o| (0..t).map(|i| output(o, i)).collect()).collect()
}

fn transpose(x: &Signal, spec: &UpSpec<'_>) -> Signal {
    let t = x[0].len() * spec.stride;
    let mut out: Signal =
        (0..spec.c_out).map(|o| vec![spec.bias.as_ref().map_or(0.0, |b| f64::from(b[o])); t]).collect();
    for (c, row) in x.iter().enumerate() {
        for (i, &v) in row.iter().enumerate() {
            for k in 0..spec.kernel {
                let at = (i * spec.stride + k) as i64 - spec.padding as i64;
                if (0..t as i64).contains(&at) {
                    for (o, out) in out.iter_mut().enumerate() {
                        out[at as usize] +=
                            v * f64::from(spec.weight[(c * spec.c_out + o) * spec.kernel + k]);
                    }
                }
            }
        }
    }
    out
}

fn map(x: &Signal, f: impl Fn(f64) -> f64) -> Signal {
    x.iter().map(|row| row.iter().map(|&v| f(v)).collect()).collect()
}

fn add(a: &Signal, b: &Signal) -> Signal {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

fn condition(
    x: &Signal,
    cond: Option<&ConvSpec<'_>>,
    g: Option<&[f32]>,
    rows: std::ops::Range<usize>,
) -> Signal {
    let Some((cond, g)) = cond.zip(g) else { return x.clone() };
    let g: Signal = g.iter().map(|&v| vec![f64::from(v)]).collect();
    let extra = convolve(&g, cond);
    x.iter().zip(&extra[rows]).map(|(row, e)| row.iter().map(|v| v + e[0]).collect()).collect()
}

/// Upstream's `ResidualCouplingBlock.forward(reverse=True)` and `Generator.forward`.
fn reference(spec: &DecoderSpec<'_>, z: &[f32], frames: usize, g: Option<&[f32]>) -> Vec<f32> {
    let mut x: Signal = z.chunks(frames).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect();
    for layer in spec.flow.layers.iter().rev() {
        x.reverse();
        let half = x.len() / 2;
        let hidden = layer.pre.c_out;
        let mut h = convolve(&x[..half].to_vec(), &layer.pre);
        let mut output = map(&h, |_| 0.0);
        let layers = layer.wn.in_layers.len();
        for (l, (in_layer, res_skip)) in layer.wn.in_layers.iter().zip(&layer.wn.res_skip_layers).enumerate()
        {
            let rows = l * 2 * hidden..(l + 1) * 2 * hidden;
            let x_in = condition(&convolve(&h, in_layer), layer.wn.cond_layer.as_ref(), g, rows);
            let (a, b) = x_in.split_at(hidden);
            let gate = |(a, b): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
                a.iter().zip(b).map(|(a, b)| a.tanh() / (1.0 + (-b).exp())).collect()
            };
            let acts: Signal = a.iter().zip(b).map(gate).collect();
            let res_skip = convolve(&acts, res_skip);
            if l + 1 < layers {
                h = add(&h, &res_skip[..hidden].to_vec());
                output = add(&output, &res_skip[hidden..].to_vec());
            } else {
                output = add(&output, &res_skip);
            }
        }
        let m = convolve(&output, &layer.post);
        for (x, m) in x[half..].iter_mut().zip(m) {
            for (x, m) in x.iter_mut().zip(m) {
                *x -= m;
            }
        }
    }
    let dec = &spec.generator;
    let leaky = |slope: f64| move |v: f64| if v > 0.0 { v } else { slope * v };
    let mut x = convolve(&x, &dec.conv_pre);
    x = condition(&x, dec.cond.as_ref(), g, 0..dec.conv_pre.c_out);
    let kernels = dec.resblocks.len() / dec.ups.len();
    for (up, blocks) in dec.ups.iter().zip(dec.resblocks.chunks(kernels)) {
        x = transpose(&map(&x, leaky(0.1)), up);
        let mut sum = map(&x, |_| 0.0);
        for block in blocks {
            let mut y = x.clone();
            match block {
                ResBlockSpec::One { convs1, convs2 } => {
                    for (c1, c2) in convs1.iter().zip(convs2) {
                        let inner = convolve(&map(&y, leaky(0.1)), c1);
                        y = add(&convolve(&map(&inner, leaky(0.1)), c2), &y);
                    }
                }
                ResBlockSpec::Two { convs } => {
                    for c in convs {
                        y = add(&convolve(&map(&y, leaky(0.1)), c), &y);
                    }
                }
            }
            sum = add(&sum, &y);
        }
        x = map(&sum, |v| v / kernels as f64);
    }
    let x = convolve(&map(&x, leaky(0.01)), &dec.conv_post);
    x[0].iter().map(|v| v.tanh() as f32).collect()
}

fn conv(r: &mut Random, c_in: usize, c_out: usize, kernel: usize, dilation: usize) -> ConvSpec<'static> {
    let scale = 1.0 / ((c_in * kernel) as f32).sqrt();
    let weight = r.vec(c_out * c_in * kernel, scale);
    ConvSpec::new(weight, c_out, c_in, kernel).with_bias(r.vec(c_out, 0.3)).with_dilation(dilation)
}

/// A random network of any shape that the exporter accepts, small.
fn network(seed: u64) -> (DecoderSpec<'static>, Option<Vec<f32>>) {
    let r = &mut Random(seed);
    let gin = [0, 3, 17][r.below(3)];
    let half = 1 + r.below(18);
    let hidden = 1 + r.below(20);
    let layers = (0..r.below(5)).map(|_| {
        let n = 1 + r.below(3);
        CouplingSpec {
            pre: conv(r, half, hidden, 1, 1),
            wn: WnSpec {
                in_layers: (0..n).map(|l| conv(r, hidden, 2 * hidden, 3 + 2 * (l % 2), 1 + l)).collect(),
                res_skip_layers: (0..n)
                    .map(|l| conv(r, hidden, if l + 1 < n { 2 * hidden } else { hidden }, 1, 1))
                    .collect(),
                cond_layer: (gin > 0).then(|| conv(r, gin, 2 * hidden * n, 1, 1)),
            },
            post: conv(r, hidden, half, 1, 1),
        }
    });
    let layers = layers.collect();
    let initial = 1 + r.below(40);
    let (mut c, mut ups, mut resblocks) = (initial, Vec::new(), Vec::new());
    let conv_pre = conv(r, 2 * half, initial, 7, 1);
    let num_kernels = 1 + r.below(3);
    let kernels: Vec<usize> = (0..num_kernels).map(|_| 3 + 2 * r.below(5)).collect();
    let one = r.below(2) == 0;
    for _ in 0..1 + r.below(3) {
        let (stride, padding) = (1 + r.below(4), r.below(4));
        let c_out = [c.div_ceil(2), 1 + r.below(40)][r.below(2)];
        let kernel = stride + 2 * padding;
        ups.push(UpSpec {
            weight: r.vec(c * c_out * kernel, 1.0 / (c as f32).sqrt()).into(),
            bias: Some(r.vec(c_out, 0.3).into()),
            c_in: c,
            c_out,
            kernel,
            stride,
            padding,
        });
        c = c_out;
        for &kernel in &kernels {
            let n = 1 + r.below(3);
            let dilations: Vec<usize> = (0..n).map(|_| 1 + r.below(6)).collect();
            let dilated = dilations.iter().map(|&d| conv(r, c, c, kernel, d)).collect();
            resblocks.push(if one {
                ResBlockSpec::One {
                    convs1: dilated,
                    convs2: (0..n).map(|_| conv(r, c, c, kernel, 1)).collect(),
                }
            } else {
                ResBlockSpec::Two { convs: dilated }
            });
        }
    }
    let mut conv_post = conv(r, c, 1, 7, 1);
    conv_post.bias = None;
    let cond = (gin > 0).then(|| conv(r, gin, initial, 1, 1));
    let spec = DecoderSpec {
        flow: FlowSpec { channels: 2 * half, layers },
        generator: GeneratorSpec { conv_pre, cond, ups, resblocks, conv_post },
    };
    (spec, (gin > 0).then(|| r.vec(gin, 1.0)))
}

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
