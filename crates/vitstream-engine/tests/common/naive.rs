//! Random small networks, and their results from naive loops in double precision. The fuzz target uses it
//! too.

use vitstream_engine::spec::{
    ConvSpec, CouplingSpec, DecoderSpec, FlowSpec, GeneratorSpec, ResBlockSpec, UpSpec, WnSpec,
};

/// Small reproducible pseudo-random numbers in -1..1.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / 8_388_608.0 - 1.0
    }

    pub fn vec(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.next() * scale).collect()
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() + 1.0) * 0.5 * n as f32) as usize % n
    }
}

/// Rows of channels: `x[c][t]`, in PyTorch's layout.
type Signal = Vec<Vec<f64>>;

fn convolve(x: &Signal, spec: &ConvSpec<'_>) -> Signal {
    let (t, pad) = (x[0].len() as i64, ((spec.kernel - 1) * spec.dilation / 2) as i64);
    let weight = spec.weight.elements();
    let output = |o: usize, i: i64| {
        let mut sum = spec.bias.as_ref().map_or(0.0, |b| f64::from(b[o]));
        for (c, row) in x.iter().enumerate() {
            for k in 0..spec.kernel {
                let at = i + (k * spec.dilation) as i64 - pad;
                if (0..t).contains(&at) {
                    sum += row[at as usize] * f64::from(weight[(o * spec.c_in + c) * spec.kernel + k]);
                }
            }
        }
        sum
    };
    (0..spec.c_out).map(|o| (0..t).map(|i| output(o, i)).collect()).collect()
}

fn transpose(x: &Signal, spec: &UpSpec<'_>) -> Signal {
    let t = x[0].len() * spec.stride;
    let weight = spec.weight.elements();
    let mut out: Signal =
        (0..spec.c_out).map(|o| vec![spec.bias.as_ref().map_or(0.0, |b| f64::from(b[o])); t]).collect();
    for (c, row) in x.iter().enumerate() {
        for (i, &v) in row.iter().enumerate() {
            for k in 0..spec.kernel {
                let at = (i * spec.stride + k) as i64 - spec.padding as i64;
                if (0..t as i64).contains(&at) {
                    for (o, out) in out.iter_mut().enumerate() {
                        out[at as usize] += v * f64::from(weight[(c * spec.c_out + o) * spec.kernel + k]);
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
pub fn reference(spec: &DecoderSpec<'_>, z: &[f32], frames: usize, g: Option<&[f32]>) -> Vec<f32> {
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
pub fn network(seed: u64) -> (DecoderSpec<'static>, Option<Vec<f32>>) {
    sized(seed, 0)
}

/// The same with more than `least` channels wherever the engine chooses a method by their number.
pub fn sized(seed: u64, least: usize) -> (DecoderSpec<'static>, Option<Vec<f32>>) {
    let r = &mut Random(seed);
    let gin = [0, 3, 17][r.below(3)];
    let half = least + 1 + r.below(18);
    let hidden = least + 1 + r.below(20);
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
    let initial = least + 1 + r.below(40);
    let (mut c, mut ups, mut resblocks) = (initial, Vec::new(), Vec::new());
    let conv_pre = conv(r, 2 * half, initial, 7, 1);
    let num_kernels = 1 + r.below(3);
    let kernels: Vec<usize> = (0..num_kernels).map(|_| 3 + 2 * r.below(5)).collect();
    let one = r.below(2) == 0;
    for _ in 0..1 + r.below(3) {
        let (stride, padding) = (1 + r.below(4), r.below(4));
        // Real voices' kernels are twice the stride, so that every phase has as many taps.
        let padding = if least > 0 && stride % 2 == 0 { stride / 2 } else { padding };
        let c_out = [c.div_ceil(2), 1 + r.below(40)][r.below(2)].max(least);
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
