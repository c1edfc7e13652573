//! Compares the kernels' functions with double precision.

use super::*;
#[cfg(feature = "threads")]
use crate::conv::{Conv, Fold, Halves, Target, Tiles};
use crate::line::{floats, floats_mut, zeros};
#[cfg(feature = "threads")]
use crate::rows::Rows;
#[cfg(feature = "threads")]
use crate::spec::ConvSpec;

fn available() -> impl Iterator<Item = Kernels> {
    [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Simd128, Isa::Scalar]
        .into_iter()
        .filter_map(|isa| Kernels::new(isa, 1).ok())
}

/// `tanh(a) * sigmoid(b)`, computed through a convolution with the identity.
fn gate(kernels: Kernels, a: f32, b: f32) -> f32 {
    let lanes = kernels.lanes();
    let mut weights = zeros(2 * 2 * lanes);
    floats_mut(&mut weights)[..2 * lanes].fill(1.0);
    let weights_of = floats_mut(&mut weights);
    weights_of[..lanes].fill(a);
    weights_of[lanes..2 * lanes].fill(b);
    let bias = zeros(2 * lanes);
    let mut out = zeros(lanes);
    kernels.conv(ConvTask {
        x: &[1.0],
        x_stride: 1,
        tap_step: 0,
        taps: 1,
        c_in: 1,
        weights: Weights::Single(floats(&weights)),
        bias: &floats(&bias)[..2 * lanes],
        rows: 1,
        step: lanes,
        epilogue: Epilogue::Gate { out: floats_mut(&mut out) },
    });
    floats(&out)[0]
}

#[test]
fn gate_is_accurate_to_a_millionth() {
    for kernels in available() {
        for i in -400..=400 {
            for b in [-100.0, -20.0, -3.3, -0.1, 0.0, 0.7, 5.0, 90.0] {
                let a = i as f32 * 0.05;
                let exact = f64::from(a).tanh() / (1.0 + (-f64::from(b)).exp());
                let error = (f64::from(gate(kernels, a, b)) - exact).abs();
                assert!(error < 1e-6, "{kernels:?}: tanh({a}) sigmoid({b}) is off by {error}");
            }
        }
        for huge in [f32::MAX, f32::MIN, 1e30, -1e30] {
            assert!(gate(kernels, huge, huge).is_finite());
        }
    }
}

#[test]
fn softmax_and_layer_norm_and_gelu_are_what_they_are_called() {
    for kernels in available() {
        for n in [1usize, 5, 16, 37] {
            let stride = n.next_multiple_of(16);
            let x: Vec<f64> = (0..n).map(|i| f64::from(((i * 7919) % 31) as f32 * 0.4 - 5.0)).collect();
            let mut rows = zeros(stride);
            for (row, x) in floats_mut(&mut rows).iter_mut().zip(&x) {
                *row = *x as f32;
            }
            let mut normed = rows.clone();
            let mut scale = [0.0];
            let task = &mut SoftmaxTask { rows: floats_mut(&mut rows), stride, len: n, scales: &mut scale };
            kernels.softmax(task);
            let total: f64 = x.iter().map(|v| v.exp()).sum();
            for (got, x) in floats(&rows).iter().zip(&x) {
                assert!((f64::from(*got * scale[0]) - x.exp() / total).abs() < 1e-6, "{kernels:?}");
            }
            assert!(floats(&rows)[n..].iter().all(|&v| v == 0.0));

            let (mut gamma, mut beta) = (zeros(stride), zeros(stride));
            floats_mut(&mut gamma)[..n].fill(1.5);
            floats_mut(&mut beta)[..n].fill(0.25);
            kernels.layer_norm(&mut NormTask {
                rows: floats_mut(&mut normed),
                stride,
                channels: n,
                gamma: floats(&gamma),
                beta: floats(&beta),
                epsilon: 1e-5,
                gelu: true,
            });
            let mean = x.iter().sum::<f64>() / n as f64;
            let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            for (got, x) in floats(&normed).iter().zip(&x) {
                let v = (x - mean) / (variance + 1e-5).sqrt() * 1.5 + 0.25;
                let exact = 0.5 * v * (1.0 + libm::erf(v / std::f64::consts::SQRT_2));
                assert!((f64::from(*got) - exact).abs() < 3e-6, "{kernels:?}: {got} for {exact}");
            }
        }
    }
}

/// However rows and channels are shared among threads, and whether weights are kept as float16, every bit of the
/// result and every float around it stays the same.
#[test]
#[cfg(feature = "threads")]
fn threads_share_rows_and_channels_and_change_no_bit() {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let (c_in, c_out, kernel) = (96, 160, 3);
    let weight: Vec<f32> = (0..c_out * c_in * kernel).map(|_| half::f16::from_f32(next()).to_f32()).collect();
    let bias: Vec<f32> = (0..c_out).map(|_| next()).collect();
    let spec = ConvSpec::new(&weight[..], c_out, c_in, kernel).with_bias(&bias[..]);
    let tiles = |always| Some(Tiles { accurate: false, always, wait: None });
    for one in available() {
        for (tiles, gated) in
            [None, tiles(false), tiles(true)].into_iter().flat_map(|t| [(t, false), (t, true)])
        {
            let [conv, kept] = [false, true].map(|wanted| {
                let halves = &Halves::new(wanted);
                let target = Target { kernels: one, arena: &Arena::default(), tiles, halves };
                if gated { Conv::gate(target, &spec) } else { Conv::new(target, &spec, Fold::default()) }
            });
            assert!(2 * kept.bytes() <= conv.bytes() + 4 * c_out, "{} {}", kept.bytes(), conv.bytes());
            // Fewer rows than channels, more, and more than four times as many.
            for rows in [24, 200, 700] {
                let mut x = Rows::new(c_in, 1);
                x.extend_to(rows);
                x.since_mut(0).fill_with(&mut next);
                x.pad(1);
                // Rows are further apart than they are wide, and there are more than are computed.
                let step = 2 * c_out;
                let buffer: Vec<f32> = (0..(rows as usize + 3) * step).map(|_| next()).collect();
                let run = |conv: &Conv, threads: usize, accumulate: bool| {
                    let kernels = Kernels { threads, ..one };
                    let (mut raw, mut act) = (buffer.clone(), buffer.clone());
                    let epilogue = match gated {
                        true => Epilogue::Gate { out: &mut raw },
                        false => Epilogue::Linear {
                            residual: Some(&buffer),
                            addend: Some(&buffer),
                            accumulate,
                            raw: Some(&mut raw),
                            act: Some((&mut act, 0.1)),
                        },
                    };
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| conv.run(kernels, &x, (0, rows), None, step, epilogue));
                    [raw, act].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                for accumulate in [false, true] {
                    let alone = run(&conv, 1, accumulate);
                    let untouched = rows as usize * step..(rows as usize + 3) * step;
                    let same = alone[untouched.clone()].iter().zip(&buffer[untouched]);
                    assert!(same.into_iter().all(|(a, b)| *a == b.to_bits()), "rows that are not computed");
                    for (name, conv, threads) in
                        [("float32", &conv, &[2, 3, 5][..]), ("float16", &kept, &[1, 2, 3, 5])]
                    {
                        for &threads in threads {
                            let same = run(conv, threads, accumulate) == alone;
                            assert!(
                                same,
                                "{one:?} {tiles:?} gated={gated} {name}: {rows} rows, {threads} threads"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "input rows are too short")]
fn a_convolution_beyond_its_input_is_stopped() {
    let weights = zeros(3 * 16);
    let mut out = zeros(32);
    for kernels in available().take(1) {
        kernels.conv(ConvTask {
            x: &[0.0; 3],
            x_stride: 1,
            tap_step: 1,
            taps: 3,
            c_in: 1,
            weights: Weights::Single(floats(&weights)),
            bias: &floats(&weights)[..16],
            rows: 2,
            step: 16,
            epilogue: Epilogue::Linear {
                residual: None,
                addend: None,
                accumulate: false,
                raw: Some(floats_mut(&mut out)),
                act: None,
            },
        });
    }
}
