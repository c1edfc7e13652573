//! Layers over a whole sequence of rows.

use std::ops::Range;

use crate::conv::{Conv, Fold, Target};
use crate::error::Error;
use crate::kernels::{DepthwiseTask, Epilogue, Kernels, NormTask};
use crate::line::{Line, aligned, floats, padded, zeros};
use crate::rows::Rows;
use crate::spec::{ConvSpec, NormSpec};

/// All rows of an item, with rows of zeros on both sides for convolutions that read them.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    rows: Rows,
    channels: usize,
    len: usize,
}

/// Default number of rows of zeros on both sides, sufficient for most convolutions here.
const MARGIN: usize = 2;

impl Sequence {
    /// `len` rows of zeros, with a margin of `reach` rows.
    pub(super) fn new(channels: usize, len: usize, reach: usize) -> Self {
        Self { rows: Rows::zeros(channels, reach, len + reach), channels, len }
    }

    /// Resizes to `len` rows of zeros with a margin of `reach` rows, unless it already has this shape; then
    /// the rows are unspecified.
    pub(super) fn fit(&mut self, channels: usize, len: usize, reach: usize) {
        if (self.channels, self.len, self.margin()) != (channels, len, reach) {
            *self = Self::new(channels, len, reach);
        }
    }

    /// Rows of zeros on each side.
    fn margin(&self) -> usize {
        (self.rows.end() - self.len as i64) as usize
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn stride(&self) -> usize {
        self.rows.stride()
    }

    pub(super) fn rows(&self) -> &[f32] {
        &self.rows.since(0)[..self.len * self.stride()]
    }

    pub(super) fn rows_mut(&mut self) -> &mut [f32] {
        let n = self.len * self.stride();
        &mut self.rows.since_mut(0)[..n]
    }

    /// The same rows with a margin of `reach`.
    fn with_margin(&self, reach: usize) -> Self {
        let mut wide = Self::new(self.channels, self.len, reach);
        wide.rows_mut().copy_from_slice(self.rows());
        wide
    }

    /// `self += other`, of the same shape.
    pub(super) fn add(&mut self, other: &Self) {
        for (a, b) in self.rows_mut().iter_mut().zip(other.rows()) {
            *a += b;
        }
    }

    /// Adds `values[channel]` to every row.
    pub(super) fn add_everywhere(&mut self, values: &[f32]) {
        let stride = self.stride();
        for row in self.rows_mut().chunks_exact_mut(stride) {
            for (a, b) in row.iter_mut().zip(values) {
                *a += b;
            }
        }
    }
}

/// A convolution over a whole sequence.
#[derive(Debug)]
pub(super) struct Linear {
    conv: Conv,
    c_out: usize,
}

impl Linear {
    pub(super) fn new(target: Target<'_>, spec: &ConvSpec<'_>) -> Self {
        Self::part(target, spec, 0..spec.c_in, 0..spec.c_out, Fold::default())
    }

    pub(super) fn part(
        target: Target<'_>,
        spec: &ConvSpec<'_>,
        inputs: Range<usize>,
        outputs: Range<usize>,
        fold: Fold,
    ) -> Self {
        let c_out = outputs.len();
        Self { conv: Conv::part(target, spec, inputs, outputs, fold), c_out }
    }

    /// Runs the convolution, followed by ReLU if `relu` is set.
    pub(super) fn run(&self, kernels: Kernels, x: &Sequence, relu: bool) -> Sequence {
        let mut out = Sequence::default();
        self.run_into(kernels, x, relu, None, &mut out);
        out
    }

    /// [`Linear::run`] to `out`, with `extra[channel]` added to the bias.
    pub(super) fn run_into(
        &self,
        kernels: Kernels,
        x: &Sequence,
        relu: bool,
        extra: Option<&[f32]>,
        out: &mut Sequence,
    ) {
        out.fit(self.c_out, x.len, MARGIN);
        let bias = extra.map(|extra| self.conv.bias_with(extra));
        let rows = out.rows_mut();
        let (raw, act) = if relu { (None, Some((rows, 0.0))) } else { (Some(rows), None) };
        let epilogue = Epilogue::Linear { residual: None, addend: None, accumulate: false, raw, act };
        self.convolve(kernels, x, bias.as_deref(), epilogue);
    }

    /// `out = conv(x) (+ residual)`, or `out += ...`.
    pub(super) fn add_into(
        &self,
        kernels: Kernels,
        x: &Sequence,
        residual: Option<&Sequence>,
        accumulate: bool,
        out: &mut Sequence,
    ) {
        out.fit(self.c_out, x.len, MARGIN);
        let residual = residual.map(Sequence::rows);
        let raw = Some(out.rows_mut());
        let epilogue = Epilogue::Linear { residual, addend: None, accumulate, raw, act: None };
        self.convolve(kernels, x, None, epilogue);
    }

    fn convolve(&self, kernels: Kernels, x: &Sequence, bias: Option<&[Line]>, epilogue: Epilogue<'_>) {
        let reach = self.conv.reach();
        let wider = (x.margin() < reach).then(|| x.with_margin(reach));
        let x = wider.as_ref().unwrap_or(x);
        let step = padded(self.c_out);
        self.conv.run(kernels, &x.rows, (0, x.len as i64), bias, step, epilogue);
    }

    pub(super) fn bytes(&self) -> usize {
        self.conv.bytes()
    }
}

/// `LayerNorm`.
#[derive(Debug)]
pub(super) struct Norm {
    gamma: Vec<Line>,
    beta: Vec<Line>,
    epsilon: f32,
}

impl Norm {
    pub(super) fn new(layer: &str, spec: &NormSpec<'_>, channels: usize) -> Result<Self, Error> {
        spec.check(layer, channels)?;
        Ok(Self { gamma: aligned(&spec.gamma), beta: aligned(&spec.beta), epsilon: spec.epsilon })
    }

    pub(super) fn run(&self, kernels: Kernels, x: &mut Sequence, gelu: bool) {
        let (stride, channels) = (x.stride(), x.channels);
        kernels.layer_norm(&mut NormTask {
            rows: x.rows_mut(),
            stride,
            channels,
            gamma: floats(&self.gamma),
            beta: floats(&self.beta),
            epsilon: self.epsilon,
            gelu,
        });
    }
}

/// A depth-wise convolution.
#[derive(Debug)]
pub(super) struct Depthwise {
    /// `[taps][padded channels]`.
    weights: Vec<Line>,
    bias: Vec<Line>,
    dilation: usize,
    reach: usize,
}

impl Depthwise {
    /// Packs a checked depth-wise convolution.
    pub(super) fn new(spec: &ConvSpec<'_>) -> Self {
        let stride = padded(spec.c_out);
        let mut weights = vec![0.0; stride * spec.kernel];
        for (i, w) in spec.weight.elements().iter().enumerate() {
            weights[i % spec.kernel * stride + i / spec.kernel] = *w;
        }
        Self {
            weights: aligned(&weights),
            bias: spec.bias.as_ref().map_or_else(|| zeros(stride), |bias| aligned(bias)),
            dilation: spec.dilation,
            reach: spec.reach(),
        }
    }

    pub(super) fn run(&self, kernels: Kernels, x: &Sequence) -> Sequence {
        let x = x.with_margin(self.reach);
        let stride = x.stride();
        let mut out = Sequence::new(x.channels, x.len, 0);
        kernels.depthwise(&mut DepthwiseTask {
            x: x.rows.since(-(self.reach as i64)),
            stride,
            tap_step: self.dilation * stride,
            weights: floats(&self.weights),
            bias: floats(&self.bias),
            out: out.rows_mut(),
        });
        out
    }
}
