//! Transposed convolutions as polyphase convolutions: every output phase is a small convolution of the input.

use std::ops::RangeInclusive;

use vitstream_onnx::{ConvAxis, GraphBuilder, ValueId};

use crate::elements::{bytes, quotient};
use crate::modules::{Conv1d, dim};
use crate::read_back::{self, Array, FoundConv, ReadBack, key};
use crate::weights::{Param, Scope, WeightsError};

/// `torch.nn.ConvTranspose1d` whose output is exactly `stride` times as long as its input.
///
/// With padding p = (k - s) / 2, output q * s + r is the sum over the taps d with 0 <= r + p + d * s < k of
/// `weight[.., r + p + d * s] * x[q - d]`. Tap 0 is always among them, because k >= s.
#[derive(Clone)]
pub struct ConvTranspose1d {
    /// `f32[c_in, c_out, kernel]`, with weight norm (over dim 0, which is the *input* channel here) folded
    /// in.
    pub weight: Param,
    /// `f32[c_out]`
    pub bias: Param,
    /// Output steps per input step.
    pub stride: usize,
}

/// Consecutive phases that use the same taps, as one convolution of the input.
pub(crate) struct PhaseGroup {
    /// Its output channels are phase-major: phase * c_out + channel.
    pub(crate) conv: Conv1d,
    /// Input steps before the current one.
    pub(crate) past: usize,
    /// Input steps after the current one.
    pub(crate) future: usize,
}

impl ConvTranspose1d {
    pub(crate) fn load(
        w: &Scope<'_>,
        c_in: usize,
        c_out: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<Self, WeightsError> {
        Ok(Self { weight: w.weight_norm(&[c_in, c_out, kernel])?, bias: w.get(&[c_out], "bias")?, stride })
    }

    /// Input channels.
    pub fn c_in(&self) -> usize {
        self.weight.dims[0]
    }

    /// Output channels.
    pub fn c_out(&self) -> usize {
        self.weight.dims[1]
    }

    /// Number of taps.
    pub fn kernel(&self) -> usize {
        self.weight.dims[2]
    }

    /// Output steps cut from each side of the kernel's full range.
    pub fn padding(&self) -> usize {
        (self.weight.dims[2] - self.stride) / 2
    }

    /// The layer with its weight multiplied by `factor`; the bias stays.
    pub(crate) fn scaled(&self, factor: f32) -> Self {
        Self { weight: self.weight.scaled(factor), ..self.clone() }
    }

    /// The taps of phase `r`.
    fn taps(&self, r: usize) -> RangeInclusive<isize> {
        let (kernel, stride, at) =
            (self.weight.dims[2] as isize, self.stride as isize, (r + self.padding()) as isize);
        -(at / stride)..=(kernel - 1 - at).div_euclid(stride)
    }

    /// The number of steps before and after the current one that any phase uses.
    pub(crate) fn reach(&self) -> (usize, usize) {
        let taps = (0..self.stride).map(|r| self.taps(r));
        taps.fold((0, 0), |(past, future), t| {
            (past.max(*t.end() as usize), future.max(t.start().unsigned_abs()))
        })
    }

    /// One convolution for each run of phases with the same taps, so that no multiply-add is wasted.
    pub(crate) fn phase_groups(&self) -> Vec<PhaseGroup> {
        let mut groups = Vec::new();
        let mut from = 0;
        while from < self.stride {
            let taps = self.taps(from);
            let to = (from..self.stride).find(|&r| self.taps(r) != taps).unwrap_or(self.stride);
            groups.push(self.group(from..to, &taps));
            from = to;
        }
        groups
    }

    fn group(&self, phases: std::ops::Range<usize>, taps: &RangeInclusive<isize>) -> PhaseGroup {
        let (c_in, c_out, kernel) = (self.weight.dims[0], self.weight.dims[1], self.weight.dims[2]);
        let (past, future) = (*taps.end(), -*taps.start());
        let width = (past + future + 1) as usize;
        let rows = || {
            let kernels = self.weight.elements();
            let mut weight = vec![0.0; phases.len() * c_out * c_in * width];
            let mut rows = weight.chunks_exact_mut(width);
            for r in phases.clone() {
                for o in 0..c_out {
                    for i in 0..c_in {
                        let row = rows.next().expect("a row for each phase, output and input");
                        for (slot, value) in row.iter_mut().enumerate() {
                            // Slot 0 meets the oldest step, to which the largest tap belongs.
                            let at =
                                (r + self.padding()) as isize + (past - slot as isize) * self.stride as isize;
                            if (0..kernel as isize).contains(&at) {
                                *value = kernels[(i * c_out + o) * kernel + at as usize];
                            }
                        }
                    }
                }
            }
            weight
        };
        let bias = || self.bias.elements().repeat(phases.len());
        PhaseGroup {
            conv: Conv1d {
                weight: Param::derived(&[phases.len() * c_out, c_in, width], [&self.weight], rows),
                bias: Some(Param::derived(&[phases.len() * c_out], [&self.bias], bias)),
                dilation: 1,
                groups: 1,
            },
            past: past as usize,
            future: future as usize,
        }
    }

    /// Interleaves the phases: `f32[b, stride * c, rows, t]`, phase-major → `f32[b, c, rows, t * stride]`.
    /// ONNX Runtime merges the two transpositions with its own on leaving and entering its blocked layout.
    pub(crate) fn interleave(&self, g: &mut GraphBuilder, phases: ValueId) -> ValueId {
        let (b, rows, t) = (g.dim(phases, 0), g.dim(phases, 2), g.dim(phases, 3));
        let steps = g.transpose(phases, &[0, 2, 3, 1]);
        let steps = g.reshape(steps, &[b, rows, &t * &dim(self.stride), dim(self.c_out())]);
        g.transpose(steps, &[0, 3, 1, 2])
    }

    /// Recovers the kernel of a transposed convolution from its phases.
    /// The weight was multiplied by `share`.
    pub(crate) fn read_back(
        r: &mut ReadBack<'_>,
        path: &str,
        c_out: usize,
        share: f32,
    ) -> read_back::Result<()> {
        let key = key(path);
        let mut groups = Vec::new();
        while r.has(&format!("/{path}/phases.{}/Conv", groups.len())) {
            groups.push(Conv1d::find(r, &format!("{path}/phases.{}", groups.len()))?);
        }
        let c_in = groups.first().map_or(0, |group| group.weight.dims[1]);
        let fits = |group: &FoundConv| {
            c_out > 0 && group.weight.dims[0].is_multiple_of(c_out) && group.weight.dims[1] == c_in
        };
        if !groups.iter().all(fits) {
            let found: Vec<&[usize]> = groups.iter().map(|group| &group.weight.dims[..]).collect();
            let problem = format!("expected phases of {c_out} channels each, found the shapes {found:?}");
            return Err(r.error(format!("{key}.phases"), problem));
        }
        let phases = |group: &FoundConv| group.weight.dims[0] / c_out;
        let stride: usize = groups.iter().map(phases).sum();
        // Every tap is used by exactly one phase.
        let kernel: usize = groups.iter().map(|group| phases(group) * group.weight.dims[2]).sum();
        let padding = kernel.saturating_sub(stride) / 2;
        let mut weight = vec![0.0; c_in * c_out * kernel];
        let mut first = 0;
        for (at, group) in groups.iter().enumerate() {
            let (width, values) = (group.weight.dims[2], group.weight.floats());
            for phase in 0..phases(group) {
                let place = first + phase + padding;
                // The oldest step meets the largest tap.
                let last = (kernel.saturating_sub(1 + place)) / stride;
                let expected = place / stride + last + 1;
                if place >= kernel || expected != width {
                    let problem = format!("expected {expected} taps with stride {stride}, found {width}");
                    return Err(r.error(format!("{key}.phases.{at}.weight"), problem));
                }
                for o in 0..c_out {
                    for i in 0..c_in {
                        let row = ((phase * c_out + o) * c_in + i) * width;
                        for (slot, &value) in values[row..row + width].iter().enumerate() {
                            // `last` of the steps are before the current one, the rest after it.
                            let tap = place + last * stride - slot * stride;
                            weight[(i * c_out + o) * kernel + tap] = quotient(value, share);
                        }
                    }
                }
            }
            first += phases(group);
        }
        let Some(bias) = groups[0].bias.as_ref() else {
            return Err(r.error(format!("{key}.phases.0.bias"), "expected a bias, found none"));
        };
        let bias = bias.rows(0..c_out);
        // All phases share upstream's bias.
        for (at, group) in groups.iter().enumerate() {
            let same = |found: &Array| found.data.chunks_exact(bias.len()).all(|found| found == &bias[..]);
            if !group.bias.as_ref().is_some_and(same) {
                let problem = "contradicts the bias of the other phases: the file was changed";
                return Err(r.error(format!("{key}.phases.{at}.bias"), problem));
            }
        }
        r.untold.upsample_rates.push(stride);
        r.put(format!("{key}.weight"), &[c_in, c_out, kernel], bytes(weight))?;
        r.put(format!("{key}.bias"), &[c_out], bias)
    }
}

impl PhaseGroup {
    /// Emits the phases for a whole utterance: `f32[b, c_in, 1, t]` → `f32[b, phases * c_out, 1, t]`.
    pub(crate) fn emit_whole(&self, g: &mut GraphBuilder, x: ValueId) -> ValueId {
        let axis = ConvAxis { pad_begin: self.past, pad_end: self.future, ..ConvAxis::default() };
        self.conv.emit_2d(g, x, axis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in scattering form.
    fn reference(up: &ConvTranspose1d, x: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let (c_in, c_out, kernel) = (up.weight.dims[0], up.weight.dims[1], up.weight.dims[2]);
        let t = x[0].len();
        let mut out = vec![vec![0.0; t * up.stride]; c_out];
        for (o, row) in out.iter_mut().enumerate() {
            row.fill(up.bias.elements()[o]);
            for (i, input) in x.iter().enumerate().take(c_in) {
                for (at, value) in input.iter().enumerate() {
                    for k in 0..kernel {
                        if let Some(n) = (at * up.stride + k).checked_sub(up.padding())
                            && n < row.len()
                        {
                            row[n] += value * up.weight.elements()[(i * c_out + o) * kernel + k];
                        }
                    }
                }
            }
        }
        out
    }

    /// The output of a group, computed from its own weights.
    fn run(group: &PhaseGroup, x: &[Vec<f32>], channel: usize, q: usize) -> f32 {
        let width = group.conv.kernel();
        let c_in = group.conv.c_in();
        let mut sum = group.conv.bias.as_ref().unwrap().elements()[channel];
        for (i, input) in x.iter().enumerate() {
            for slot in 0..width {
                let at = q as isize + slot as isize - group.past as isize;
                if let Some(value) = usize::try_from(at).ok().and_then(|at| input.get(at)) {
                    sum += value * group.conv.weight.elements()[(channel * c_in + i) * width + slot];
                }
            }
        }
        sum
    }

    #[test]
    fn phases_are_the_transposed_convolution() {
        for (kernel, stride) in [(16, 8), (4, 2), (8, 4), (3, 3), (11, 5), (9, 3), (7, 1), (12, 2), (5, 1)] {
            let (c_in, c_out) = (2, 3);
            let value = |i: usize| ((i * 37 + 11) % 29) as f32 / 7.0 - 2.0;
            let up = ConvTranspose1d {
                weight: Param::new(&[c_in, c_out, kernel], (0..c_in * c_out * kernel).map(value).collect()),
                bias: Param::new(&[c_out], (0..c_out).map(value).collect()),
                stride,
            };
            let x: Vec<Vec<f32>> =
                (0..c_in).map(|c| (0..6).map(|t| value(c * 6 + t + 3)).collect()).collect();
            let expected = reference(&up, &x);
            {
                let groups = up.phase_groups();
                let mut r = 0;
                for group in &groups {
                    let phases = group.conv.c_out() / c_out;
                    for phase in 0..phases {
                        for o in 0..c_out {
                            for q in 0..6 {
                                let found = run(group, &x, phase * c_out + o, q);
                                let expected = expected[o][q * stride + r];
                                assert!(
                                    (found - expected).abs() < 1e-4,
                                    "k {kernel} s {stride} r {r}: {found} {expected}"
                                );
                            }
                        }
                        r += 1;
                    }
                }
                assert_eq!(r, stride);
            }
            let taps: usize =
                up.phase_groups().iter().map(|g| g.conv.c_out() / c_out * g.conv.kernel()).sum();
            assert_eq!(taps, kernel, "every tap is used exactly once");
        }
    }
}
