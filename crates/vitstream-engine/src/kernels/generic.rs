//! The kernels' loops over rows and panels, generic in the register.
//!
//! `L` is the number of floats in a register, `FMA` is true for fused multiply-adds, and `ROWS` is the
//! largest number of rows that a tile keeps in registers.

use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::line::SMALL;

use super::task::{ConvTask, DepthwiseTask, DotTask, Epilogue, NormTask, SoftmaxTask};
use super::tile::{self, Run, Source};
pub(super) use super::winograd::{transform_weights, winograd_rows};

/// Number of rows of the next tile when `left` remain: as few tiles as possible, of nearly equal height,
/// because a low tile reads as many weights as a high one.
#[inline(always)]
pub(super) fn next_rows(left: usize, max: usize) -> usize {
    left.div_ceil(left.div_ceil(max))
}

#[inline(always)]
pub(super) fn conv_rows<const L: usize, const FMA: bool, const ROWS: usize>(
    task: &mut ConvTask<'_>,
    run: Run<L>,
) {
    task.check(L);
    let (wide, narrow) = task.panels(L);
    let mut sums = [[[0f32; L]; 2]; tile::ROWS];
    let size = task.taps * task.c_in * 2 * L;
    let mut room = task.weights.room(size);
    // The next panel, of this layer or the next, follows this one in memory, unless it has to be widened.
    let next = if task.weights.is_half() { 0 } else { size as isize };
    for panel in 0..wide + usize::from(narrow) {
        let is_wide = panel < wide;
        let weights = task.weights.panel(panel * size, if is_wide { size } else { size / 2 }, &mut room);
        let mut row = 0;
        while row < task.rows {
            let rows = next_rows(task.rows - row, ROWS);
            let source = Source {
                x: task.x[row * task.x_stride..].as_ptr(),
                x_stride: task.x_stride,
                taps: task.taps,
                tap_step: task.tap_step,
                c_in: task.c_in,
                ahead: if row + rows == task.rows { next } else { 0 },
                weights: weights.as_ptr(),
            };
            // SAFETY: `check` proved that the last row's last tap ends inside `x`, and `weights` has the
            // length that one or two registers for each tap's channels take.
            unsafe { run(rows, is_wide, source, &mut sums) };
            let sums = &sums[..rows];
            // SAFETY: `check` proved that all of `task.rows` lie inside the epilogue's slices.
            unsafe {
                match Finish::<L>::new(&mut task.epilogue, task.bias, task.step, panel, is_wide) {
                    Finish::Linear(linear) if linear.adds => linear.tile::<true>(row, sums),
                    Finish::Linear(linear) => linear.tile::<false>(row, sums),
                    Finish::Gate(gate) => {
                        for (r, [a, b]) in sums.iter().enumerate() {
                            gate.finish::<FMA>(row + r, a, b);
                        }
                    }
                }
            }
            row += rows;
        }
    }
}

/// The epilogue of a panel's registers, with its slices as pointers: finishing a register takes a few
/// instructions, most of which would otherwise be finding a slice and checking its length.
pub(super) enum Finish<'t, const L: usize> {
    Linear(Linear<'t, L>),
    Gate(Gate<'t, L>),
}

/// [`Epilogue::Linear`]. A missing addend is a register of zeros, so that there is no branch between the sums
/// and their result: where branches meet, the compiler no longer keeps an array in a register.
pub(super) struct Linear<'t, const L: usize> {
    /// Residual, addend and the previous contents of `raw`, each with the mask of its offsets.
    added: [(*const f32, usize); 3],
    /// Set if there is anything to add.
    pub(super) adds: bool,
    raw: Option<NonNull<f32>>,
    act: Option<NonNull<f32>>,
    slope: f32,
    bias: [[f32; L]; 2],
    step: usize,
    /// First channel of the panel.
    first: usize,
    /// Registers of the panel.
    pub(super) halves: usize,
    epilogue: PhantomData<&'t mut [f32]>,
}

/// [`Epilogue::Gate`].
pub(super) struct Gate<'t, const L: usize> {
    out: NonNull<f32>,
    bias: [[f32; L]; 2],
    step: usize,
    epilogue: PhantomData<&'t mut [f32]>,
}

impl<'t, const L: usize> Finish<'t, L> {
    /// The epilogue of panel `panel`, whose rows are `step` floats apart.
    #[inline(always)]
    pub(super) fn new(
        epilogue: &'t mut Epilogue<'_>,
        bias: &[f32],
        step: usize,
        panel: usize,
        wide: bool,
    ) -> Self {
        const NOTHING: (*const f32, usize) = (ZEROS.as_ptr(), 0);
        let first = panel * 2 * L;
        let bias = [read::<L>(bias, first), if wide { read::<L>(bias, first + L) } else { [0.0; L] }];
        match epilogue {
            Epilogue::Linear { residual, addend, accumulate, raw, act } => {
                let raw = raw.as_mut().map(|s| NonNull::from(&mut **s).cast::<f32>());
                let old =
                    raw.filter(|_| *accumulate).map_or(NOTHING, |p| (p.as_ptr().cast_const(), usize::MAX));
                let [residual, addend] =
                    [residual, addend].map(|s| s.map_or(NOTHING, |s| (s.as_ptr(), usize::MAX)));
                Finish::Linear(Linear {
                    added: [residual, addend, old],
                    adds: [residual, addend, old] != [NOTHING; 3],
                    raw,
                    slope: act.as_ref().map_or(0.0, |(_, slope)| *slope),
                    act: act.as_mut().map(|(s, _)| NonNull::from(&mut **s).cast()),
                    bias,
                    step,
                    first,
                    halves: 1 + usize::from(wide),
                    epilogue: PhantomData,
                })
            }
            Epilogue::Gate { out } => Finish::Gate(Gate {
                out: NonNull::from(&mut out[first / 2..]).cast(),
                bias,
                step,
                epilogue: PhantomData,
            }),
        }
    }
}

/// The addend if there is nothing to add.
static ZEROS: [f32; 16] = [0.0; 16];

impl<const L: usize> Linear<'_, L> {
    /// Finishes a tile of rows from row `first` on.
    ///
    /// # Safety
    /// As for [`Linear::finish`], for all these rows.
    #[inline(always)]
    unsafe fn tile<const ADDS: bool>(&self, first: usize, sums: &[[[f32; L]; 2]]) {
        for (r, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate().take(self.halves) {
                // SAFETY: the caller's.
                unsafe { self.finish::<ADDS>(first + r, half, sum) };
            }
        }
    }

    /// Finishes a register of a row; `ADDS` is `adds`.
    ///
    /// # Safety
    /// Row `row` must lie inside the epilogue's slices (see [`Epilogue::check`]), and `half` be less than
    /// `halves`.
    #[inline(always)]
    pub(super) unsafe fn finish<const ADDS: bool>(&self, row: usize, half: usize, sum: &[f32; L]) {
        let at = row * self.step + self.first + half * L;
        let mut v = add(sum, &self.bias[half]);
        // SAFETY: the caller's; `ZEROS` has as many floats as the largest register.
        unsafe {
            if ADDS {
                for (more, mask) in self.added {
                    v = add(&v, &tile::load(more.add(at & mask)));
                }
            }
            let v = audible(&v);
            if let Some(raw) = self.raw {
                store(raw.as_ptr().add(at), &v);
            }
            if let Some(act) = self.act {
                store(act.as_ptr().add(at), &leaky(&v, self.slope));
            }
        }
    }
}

impl<const L: usize> Gate<'_, L> {
    /// Finishes both registers of a row.
    ///
    /// # Safety
    /// Row `row` must lie inside the epilogue's slice.
    #[inline(always)]
    pub(super) unsafe fn finish<const FMA: bool>(&self, row: usize, a: &[f32; L], b: &[f32; L]) {
        let v = audible(&gate::<L, FMA>(&add(a, &self.bias[0]), &add(b, &self.bias[1])));
        // SAFETY: the caller's.
        unsafe { store(self.out.as_ptr().add(row * self.step), &v) };
    }
}

/// Replaces values smaller than [`SMALL`] by zero.
#[inline(always)]
fn audible<const L: usize>(v: &[f32; L]) -> [f32; L] {
    std::array::from_fn(|l| if v[l].abs() < SMALL { 0.0 } else { v[l] })
}

/// Writes a register.
///
/// # Safety
/// `p` must be valid for writing `L` floats.
#[inline(always)]
pub(super) unsafe fn store<const L: usize>(p: *mut f32, v: &[f32; L]) {
    // SAFETY: the caller's.
    unsafe { p.cast::<[f32; L]>().write_unaligned(*v) }
}

#[inline(always)]
pub(super) fn dot_tanh<const L: usize, const FMA: bool, const ROWS: usize>(
    task: &mut DotTask<'_>,
    _run: Run<L>,
) {
    let last = task.out.len() - 1;
    for (block, out) in task.out.chunks_mut(L).enumerate() {
        let mut samples = [0f32; L];
        // Four chains at a time, so that no chain waits for its own result.
        for (i, samples) in samples.chunks_exact_mut(4).enumerate() {
            let rows: [&[f32]; 4] =
                std::array::from_fn(|r| &task.x[(block * L + i * 4 + r).min(last) * task.x_stride..]);
            let mut sums = [[0f32; L]; 4];
            for (tap, w) in task.weights.chunks_exact(task.x_stride).enumerate() {
                for (c, w) in w.chunks_exact(L).enumerate() {
                    let at = tap * task.tap_step + c * L;
                    for r in 0..4 {
                        let x = read::<L>(rows[r], at);
                        for l in 0..L {
                            sums[r][l] = fma::<FMA>(x[l], w[l], sums[r][l]);
                        }
                    }
                }
            }
            for (sample, sum) in samples.iter_mut().zip(sums) {
                *sample = total(sum) + task.bias;
            }
        }
        let samples = tanh::<L, FMA>(&samples);
        out.copy_from_slice(&samples[..out.len()]);
    }
}

#[inline(always)]
pub(super) fn layer_norm<const L: usize, const FMA: bool, const ROWS: usize>(
    task: &mut NormTask<'_>,
    _run: Run<L>,
) {
    let n = task.channels as f32;
    for row in task.rows.chunks_exact_mut(task.stride) {
        let mut sum = [0f32; L];
        for x in row.chunks_exact(L) {
            for l in 0..L {
                sum[l] += x[l];
            }
        }
        let mean = total(sum) / n;
        let mut squares = [0f32; L];
        for (i, x) in row.chunks_exact(L).enumerate() {
            for l in 0..L {
                let d = if i * L + l < task.channels { x[l] - mean } else { 0.0 };
                squares[l] = fma::<FMA>(d, d, squares[l]);
            }
        }
        let variance = total(squares) / n;
        let scale = 1.0 / (variance + task.epsilon).sqrt();
        for ((x, gamma), beta) in
            row.chunks_exact_mut(L).zip(task.gamma.chunks_exact(L)).zip(task.beta.chunks_exact(L))
        {
            let v = std::array::from_fn(|l| fma::<FMA>((x[l] - mean) * scale, gamma[l], beta[l]));
            x.copy_from_slice(&if task.gelu { gelu::<L, FMA>(&v) } else { v });
        }
    }
}

#[inline(always)]
pub(super) fn softmax<const L: usize, const FMA: bool, const ROWS: usize>(
    task: &mut SoftmaxTask<'_>,
    _run: Run<L>,
) {
    for (row, scale) in task.rows.chunks_exact_mut(task.stride).zip(&mut *task.scales) {
        row[task.len..].fill(f32::NEG_INFINITY);
        let mut most = [f32::NEG_INFINITY; L];
        for x in row.chunks_exact(L) {
            for l in 0..L {
                most[l] = if x[l] > most[l] { x[l] } else { most[l] };
            }
        }
        // For a NaN it has no meaning, but then the differences are NaN as well, and so is the sum.
        let most = most.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
        let mut sum = [0f32; L];
        for x in row.chunks_exact_mut(L) {
            let v = exp::<L, FMA>(&std::array::from_fn(|l| clamp(x[l] - most, 87.0)));
            for l in 0..L {
                sum[l] += v[l];
            }
            x.copy_from_slice(&v);
        }
        // exp(-87), the clamped value of the padding, vanishes in a sum of at least 1.
        *scale = 1.0 / total(sum);
        row[task.len..].fill(0.0);
    }
}

#[inline(always)]
pub(super) fn depthwise<const L: usize, const FMA: bool, const ROWS: usize>(
    task: &mut DepthwiseTask<'_>,
    _run: Run<L>,
) {
    for (r, out) in task.out.chunks_exact_mut(task.stride).enumerate() {
        for c in (0..task.stride).step_by(L) {
            let mut sum = read::<L>(task.bias, c);
            for (tap, w) in task.weights.chunks_exact(task.stride).enumerate() {
                let (x, w) = (read::<L>(task.x, r * task.stride + tap * task.tap_step + c), read::<L>(w, c));
                sum = std::array::from_fn(|l| fma::<FMA>(x[l], w[l], sum[l]));
            }
            write(out, c, &sum);
        }
    }
}

/// `x * Phi(x)`, with the error function of Abramowitz and Stegun 7.1.26 (absolute error below 2e-7).
#[inline(always)]
fn gelu<const L: usize, const FMA: bool>(x: &[f32; L]) -> [f32; L] {
    let z: [f32; L] = std::array::from_fn(|l| x[l].abs() * std::f32::consts::FRAC_1_SQRT_2);
    let e = exp::<L, FMA>(&std::array::from_fn(|l| -clamp(z[l] * z[l], 87.0)));
    std::array::from_fn(|l| {
        let t = 1.0 / fma::<FMA>(z[l], 0.327_591_1, 1.0);
        let mut p = 1.061_405_4;
        for c in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
            p = fma::<FMA>(p, t, c);
        }
        // 1 - erf(z); half of it is the tail of the normal distribution beyond |x|.
        let tail = 0.5 * p * t * e[l];
        x[l] * if x[l] < 0.0 { tail } else { 1.0 - tail }
    })
}

#[inline(always)]
pub(super) fn read<const L: usize>(s: &[f32], at: usize) -> [f32; L] {
    let mut v = [0.0; L];
    v.copy_from_slice(&s[at..at + L]);
    v
}

#[inline(always)]
pub(super) fn write<const L: usize>(s: &mut [f32], at: usize, v: &[f32; L]) {
    s[at..at + L].copy_from_slice(v);
}

#[inline(always)]
fn add<const L: usize>(a: &[f32; L], b: &[f32; L]) -> [f32; L] {
    std::array::from_fn(|l| a[l] + b[l])
}

#[inline(always)]
fn leaky<const L: usize>(v: &[f32; L], slope: f32) -> [f32; L] {
    std::array::from_fn(|l| {
        let y = v[l] * slope;
        if v[l] > y { v[l] } else { y }
    })
}

/// Sum of a register's lanes by halving, always with the same tree.
#[inline(always)]
fn total<const L: usize>(mut v: [f32; L]) -> f32 {
    let mut n = L;
    while n > 1 {
        n /= 2;
        for l in 0..n {
            v[l] += v[l + n];
        }
    }
    v[0]
}

/// `exp(x)` for `|x| <= 87`, relative error below 2e-7: `2^n * exp(r)` with `|r| <= ln(2) / 2`, where
/// `exp(r)` is its Taylor polynomial of degree 6 (remainder below 1.2e-7 * 2^-2 of the result), `ln(2)` split
/// in two as Cody and Waite do.
#[inline(always)]
fn exp<const L: usize, const FMA: bool>(x: &[f32; L]) -> [f32; L] {
    /// Adding it to a small number leaves the rounded number in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    std::array::from_fn(|l| {
        let shifted = fma::<FMA>(x[l], std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = fma::<FMA>(n, -LN2_LOW, fma::<FMA>(n, -LN2_HIGH, x[l]));
        let mut p = 1.0 / 720.0;
        for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = fma::<FMA>(p, r, c);
        }
        // The low bits of `shifted` are n; shifted into the exponent they give 2^n.
        let scale = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(0x3f80_0000));
        p * scale
    })
}

#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `tanh(a) * sigmoid(b)` with one division: `(1 - u) / ((1 + u) * (1 + v))`, `u = exp(-2a)`, `v = exp(-b)`.
///
/// Beyond +-9, tanh is +-1 in single precision; beyond +-80, sigmoid is 0 or 1 to within 2e-35. An overflow
/// of the product gives 0, which is the correct limit.
#[inline(always)]
fn gate<const L: usize, const FMA: bool>(a: &[f32; L], b: &[f32; L]) -> [f32; L] {
    let u = exp::<L, FMA>(&std::array::from_fn(|l| clamp(a[l], 9.0) * -2.0));
    let v = exp::<L, FMA>(&std::array::from_fn(|l| -clamp(b[l], 80.0)));
    std::array::from_fn(|l| (1.0 - u[l]) / ((1.0 + u[l]) * (1.0 + v[l])))
}

#[inline(always)]
fn tanh<const L: usize, const FMA: bool>(a: &[f32; L]) -> [f32; L] {
    let u = exp::<L, FMA>(&std::array::from_fn(|l| clamp(a[l], 9.0) * -2.0));
    std::array::from_fn(|l| (1.0 - u[l]) / (1.0 + u[l]))
}

/// Clamps to `-bound..=bound`, written so that it compiles to a minimum and a maximum. A NaN stays a NaN: as
/// a bound it would be mistaken for a gate's full value, and for the loudest sample.
#[inline(always)]
fn clamp(x: f32, bound: f32) -> f32 {
    let x = if bound < x { bound } else { x };
    if -bound > x { -bound } else { x }
}
