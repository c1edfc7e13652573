//! Winograd's method over batches of tiles: transform the input, multiply, transform back.

use super::generic::{Finish, Gate, Linear, fma, next_rows, read, store};
use super::task::{TransformTask, WinogradTask};
use super::tile::{self, Run, Source};
use super::weights::{Weights, widen};
use crate::line::{LINE, Line, floats_mut};
use crate::winograd::{Coefficients, MAX_TAPS, Plan};
use bytemuck::Zeroable;
use std::cell::Cell;

thread_local! {
    /// Memory for the transformed input of some tiles and the transformed weights of a panel.
    static SCRATCH: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Number of batches of tiles that share a panel which must be transformed first.
const BATCHES: usize = 8;

/// Floats between the parts of transformed weights in the scratch memory: parts with a size of a multiple of
/// 4 KiB would all use the same few cache lines.
const GAP: usize = 8 * LINE;

/// Limit on the products of a tile.
const PRODUCTS: usize = 10;

/// `B^T x` of one register of channels.
///
/// A loop over lanes with a long scalar body, a form that the compiler turns into one pass over whole
/// registers.
#[inline(always)]
fn forward<const L: usize, const FMA: bool, const PAIRS: usize>(
    x: &[[f32; L]; PRODUCTS],
    out: &mut [[f32; L]; PRODUCTS],
) {
    let all = &Coefficients::<PAIRS>::ALL;
    let q = &Coefficients::<PAIRS>::Q;
    let powers = &Coefficients::<PAIRS>::POWERS;
    for l in 0..L {
        // The last coefficient of each polynomial is 1.
        let (mut zero, mut infinity) = (x[2 * PAIRS][l], x[2 * PAIRS + 1][l]);
        for k in 0..PAIRS {
            zero = fma::<FMA>(x[2 * k][l], all[k], zero);
            infinity = fma::<FMA>(x[2 * k + 1][l], all[k], infinity);
        }
        out[0][l] = zero;
        out[2 * PAIRS + 1][l] = infinity;
        for i in 0..PAIRS {
            let (mut even, mut odd) = (x[2 * PAIRS][l], x[2 * PAIRS - 1][l]);
            for k in 0..PAIRS - 1 {
                even = fma::<FMA>(x[2 * k + 2][l], q[i][k], even);
                odd = fma::<FMA>(x[2 * k + 1][l], q[i][k], odd);
            }
            out[2 * i + 1][l] = fma::<FMA>(odd, powers[i][1], even);
            out[2 * i + 2][l] = fma::<FMA>(odd, -powers[i][1], even);
        }
    }
}

/// `A^T` of the products of one register of channels.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "the products of a lane are no slice")]
fn backward<'p, const L: usize, const FMA: bool, const PAIRS: usize, const M: usize>(
    product: impl Fn(usize) -> &'p [f32; L],
    out: &mut [[f32; L]; M],
) {
    let powers = &Coefficients::<PAIRS>::POWERS;
    for l in 0..L {
        let mut sums = [0.0; PAIRS];
        let mut differences = [0.0; PAIRS];
        for i in 0..PAIRS {
            let (plus, minus) = (product(2 * i + 1)[l], product(2 * i + 2)[l]);
            sums[i] = plus + minus;
            differences[i] = plus - minus;
        }
        for j in 0..M {
            let terms = if j % 2 == 0 { &sums } else { &differences };
            // The first point is 1, whose powers are 1.
            let mut v = terms[0];
            if j == 0 {
                v += product(0)[l];
            }
            if j + 1 == M {
                v += product(2 * PAIRS + 1)[l];
            }
            for i in 1..PAIRS {
                v = fma::<FMA>(terms[i], powers[i][j], v);
            }
            out[j][l] = v;
        }
    }
}

/// [`transform`] of weights in either format.
#[inline(always)]
fn weights<const L: usize, const FMA: bool, const PAIRS: usize, const M: usize>(
    kernel: usize,
    c_in: usize,
    width: usize,
    from: Weights<'_>,
    to: (&mut [f32], usize),
) {
    assert!(from.len() >= kernel * c_in * width && width.is_multiple_of(L));
    match from {
        Weights::Single(from) => {
            // SAFETY: the size is `kernel * c_in * width` floats, a whole number of registers, and the slice
            // has as many.
            let load = |at| unsafe { tile::load(from.as_ptr().add(at)) };
            transform::<L, FMA, PAIRS, M>(kernel, c_in, width, load, to);
        }
        Weights::Half(from) => {
            let load = |at: usize| {
                let mut register = [0.0; L];
                register.iter_mut().zip(&from[at..][..L]).for_each(|(value, &half)| *value = widen(half));
                register
            };
            transform::<L, FMA, PAIRS, M>(kernel, c_in, width, load, to);
        }
    }
}

/// Computes `G w` of a panel of `width` channels (a whole number of registers), from `[kernel][c_in][width]`
/// to `[products][groups][c_in][width]`.
#[inline(always)]
fn transform<const L: usize, const FMA: bool, const PAIRS: usize, const M: usize>(
    kernel: usize,
    c_in: usize,
    width: usize,
    load: impl Fn(usize) -> [f32; L],
    (to, apart): (&mut [f32], usize),
) {
    let (products, taps) = (2 * PAIRS + 2, 2 * PAIRS + 3 - M);
    let groups = kernel.div_ceil(taps);
    // Floats of a tap, and of a group of a product.
    let size = c_in * width;
    assert!(to.len() >= (products - 1) * apart + groups * size && width.is_multiple_of(L));
    let g = &Coefficients::<PAIRS>::G;
    for group in 0..groups {
        // The last group may lack taps, which count as zeros.
        let present = taps.min(kernel - group * taps);
        for at in (0..size).step_by(L) {
            let mut w = [[0f32; L]; MAX_TAPS];
            for (k, w) in w.iter_mut().enumerate().take(taps) {
                if k < present {
                    *w = load((group * taps + k) * size + at);
                }
            }
            let mut out = [[0f32; L]; PRODUCTS];
            for l in 0..L {
                out[0][l] = w[0][l] * Coefficients::<PAIRS>::ZERO;
                out[products - 1][l] = w[taps - 1][l];
                for i in 0..PAIRS {
                    let (mut even, mut odd) = (w[0][l] * g[i][0], w[1][l] * g[i][1]);
                    for k in 2..taps {
                        let half = if k % 2 == 0 { &mut even } else { &mut odd };
                        *half = fma::<FMA>(w[k][l], g[i][k], *half);
                    }
                    out[2 * i + 1][l] = even + odd;
                    out[2 * i + 2][l] = even - odd;
                }
            }
            for (p, value) in out.iter().enumerate().take(products) {
                // SAFETY: `to` has `products` parts, `apart` from each other, of `groups * size` floats.
                unsafe { store(to.as_mut_ptr().add(p * apart + group * size + at), value) };
            }
        }
    }
}

/// Calls `$name` for the pairs and the outputs of a plan.
macro_rules! planned {
    ($plan:expr, $name:ident::<$($generic:ident),+>$args:tt) => {
        match ($plan.pairs, $plan.taps) {
            (2, 2) => $name::<$($generic),+, 2, 5>$args,
            (2, 3) => $name::<$($generic),+, 2, 4>$args,
            (2, 5) => $name::<$($generic),+, 2, 2>$args,
            (3, 3) => $name::<$($generic),+, 3, 6>$args,
            (3, 4) => $name::<$($generic),+, 3, 5>$args,
            (3, 5) => $name::<$($generic),+, 3, 4>$args,
            (3, 7) => $name::<$($generic),+, 3, 2>$args,
            (4, 4) => $name::<$($generic),+, 4, 7>$args,
            (4, 5) => $name::<$($generic),+, 4, 6>$args,
            (4, 6) => $name::<$($generic),+, 4, 5>$args,
            (4, 7) => $name::<$($generic),+, 4, 4>$args,
            _ => unreachable!("Plan makes no other"),
        }
    };
}

/// The start of panel `panel` of `rows` rows of channels, and its width.
fn panel_at(lanes: usize, channels: usize, rows: usize, panel: usize) -> (usize, usize) {
    (panel * rows * 2 * lanes, (channels - panel * 2 * lanes).min(2 * lanes))
}

#[inline(always)]
pub(super) fn transform_weights<const L: usize, const FMA: bool, const ROWS: usize>(
    task: &mut TransformTask<'_>,
    _run: Run<L>,
) {
    let Plan { groups, .. } = task.plan;
    for panel in 0..task.channels.div_ceil(2 * L) {
        let (from, width) = panel_at(L, task.channels, task.kernel * task.c_in, panel);
        let (to, _) = panel_at(L, task.channels, task.plan.products() * groups * task.c_in, panel);
        let (from, to) = (Weights::Single(&task.weights[from..]), &mut task.out[to..]);
        let apart = groups * task.c_in * width;
        planned!(task.plan, weights::<L, FMA>(task.kernel, task.c_in, width, from, (to, apart)));
    }
}

#[inline(always)]
pub(super) fn winograd_rows<const L: usize, const FMA: bool, const ROWS: usize>(
    task: &mut WinogradTask<'_>,
    run: Run<L>,
) {
    planned!(task.plan, tiles::<L, FMA, ROWS>(task, run));
}

/// Computes tiles of `M` outputs. The tiles of a dilated convolution are `dilation` rows apart, and so are a
/// tile's inputs.
#[inline(always)]
fn tiles<const L: usize, const FMA: bool, const ROWS: usize, const PAIRS: usize, const M: usize>(
    task: &mut WinogradTask<'_>,
    run: Run<L>,
) {
    let products = 2 * PAIRS + 2;
    let groups = task.plan.groups;
    let channels = task.bias.len();
    let width = task.c_in.next_multiple_of(L);
    assert!(task.rows > 0 && task.dilation > 0 && width <= task.x_stride && channels.is_multiple_of(L));
    let depth = task.depth();
    assert!(task.weights.len() >= depth * channels, "panels are too short");
    task.epilogue.check(task.rows, task.step, channels, L);

    // A phase consists of the outputs with the same remainder of row / dilation, divided into tiles.
    let phases = task.dilation.min(task.rows);
    let tiles_of = |phase: usize| (task.rows - phase).div_ceil(task.dilation).div_ceil(M);
    let count: usize = (0..phases).map(tiles_of).sum();

    let batch = ROWS.min(tile::ROWS);
    let batches = if task.transformed { 1 } else { BATCHES.min(count.div_ceil(batch)) };
    // Floats of a batch's transformed input, and of a panel's transformed weights.
    let v_len = products * groups * batch * width;
    let w_len = if task.transformed { 0 } else { products * (groups * task.c_in * 2 * L + GAP) };
    let mut scratch = SCRATCH.take();
    if scratch.len() * LINE < batches * v_len + w_len {
        scratch.resize((batches * v_len + w_len).div_ceil(LINE), Line::zeroed());
    }

    let (mut phase, mut index) = (0, 0);
    let mut done = 0;
    let mut sums: Sums<L> = [[[[0.0; L]; 2]; tile::ROWS]; PRODUCTS];
    while done < count {
        let (v, w) = floats_mut(&mut scratch).split_at_mut(batches * v_len);
        let mut first_rows = [[0usize; tile::ROWS]; BATCHES];
        let mut heights = [0; BATCHES];
        for ((v, first_rows), height) in
            v.chunks_exact_mut(v_len).zip(&mut first_rows).zip(&mut heights).take(batches)
        {
            if done == count {
                break;
            }
            *height = next_rows(count - done, batch);
            done += *height;
            for (t, first) in first_rows[..*height].iter_mut().enumerate() {
                *first = phase + index * M * task.dilation;
                index += 1;
                if index == tiles_of(phase) {
                    (phase, index) = (phase + 1, 0);
                }
                input::<L, FMA, PAIRS>(task, *first, batch, &mut v[t * width..]);
            }
        }

        for panel in 0..channels.div_ceil(2 * L) {
            let (at, panel_width) = panel_at(L, channels, depth, panel);
            let held = task.weights.range(at, depth * panel_width);
            let size = groups * task.c_in * panel_width;
            let (panel_weights, apart) = match held {
                Weights::Single(weights) if task.transformed => (weights, size),
                _ => {
                    let apart = size + GAP;
                    let to = (&mut *w, apart);
                    weights::<L, FMA, PAIRS, M>(task.kernel, task.c_in, panel_width, held, to);
                    (&*w, apart)
                }
            };
            let wide = panel_width > L;
            // The next panel, of this layer or the next, follows this one in memory. A panel of float16 is short
            // enough for the processor to load it in time without a prefetch.
            let mut ahead = match held {
                Weights::Single(weights) => {
                    let behind = weights.as_ptr_range().end.addr();
                    behind.wrapping_sub(panel_weights.as_ptr().addr()) as isize / size_of::<f32>() as isize
                }
                Weights::Half(_) => 0,
            };
            for ((v, first_rows), &n) in v.chunks_exact(v_len).zip(&first_rows).zip(&heights) {
                if n == 0 {
                    break;
                }
                for (p, sums) in sums.iter_mut().enumerate().take(products) {
                    let source = Source {
                        x: v[p * groups * batch * width..][..groups * batch * width].as_ptr(),
                        x_stride: width,
                        taps: groups,
                        tap_step: batch * width,
                        c_in: task.c_in,
                        ahead: if p * groups < task.kernel || task.transformed { ahead } else { 0 },
                        weights: panel_weights[p * apart..][..size].as_ptr(),
                    };
                    // SAFETY: both slices are cut to what a tile of at most `batch` rows reads: `n - 1` rows
                    // of `width` floats plus `c_in <= width` in each of `groups` blocks of `batch` rows, and
                    // the panel.
                    unsafe { run(n, wide, source, sums) };
                }
                ahead = 0;
                let rows = &first_rows[..n];
                // SAFETY: `check` proved that all of `task.rows` lie inside the epilogue's slices.
                unsafe {
                    let finish = Finish::<L>::new(&mut task.epilogue, task.bias, task.step, panel, wide);
                    let limits = (task.rows, task.dilation);
                    match finish {
                        Finish::Linear(linear) if linear.adds => {
                            output::<L, FMA, PAIRS, M, true>(&linear, &sums, rows, limits);
                        }
                        Finish::Linear(linear) => {
                            output::<L, FMA, PAIRS, M, false>(&linear, &sums, rows, limits);
                        }
                        Finish::Gate(gate) => output_gate::<L, FMA, PAIRS, M>(&gate, &sums, rows, limits),
                    }
                }
            }
        }
    }
    SCRATCH.set(scratch);
}

/// The sums of each product of a batch.
type Sums<const L: usize> = [tile::Sums<L>; PRODUCTS];

/// Transforms a batch back and finishes it: the tiles whose first outputs are `rows`.
///
/// # Safety
/// Those of the tiles' rows that are less than `end` must lie inside the epilogue's slices.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "a half is an index in each of the sums")]
unsafe fn output<const L: usize, const FMA: bool, const PAIRS: usize, const M: usize, const ADDS: bool>(
    linear: &Linear<'_, L>,
    sums: &Sums<L>,
    rows: &[usize],
    (end, dilation): (usize, usize),
) {
    let mut tile = [[0f32; L]; M];
    for half in 0..linear.halves {
        for (t, &first) in rows.iter().enumerate() {
            backward::<L, FMA, PAIRS, M>(|p| &sums[p][t][half], &mut tile);
            for (j, v) in tile.iter().enumerate() {
                let row = first + j * dilation;
                if row < end {
                    // SAFETY: the caller's.
                    unsafe { linear.finish::<ADDS>(row, half, v) };
                }
            }
        }
    }
}

/// The same for a gate.
///
/// # Safety
/// As for [`output`].
#[inline(always)]
unsafe fn output_gate<const L: usize, const FMA: bool, const PAIRS: usize, const M: usize>(
    gate: &Gate<'_, L>,
    sums: &Sums<L>,
    rows: &[usize],
    (end, dilation): (usize, usize),
) {
    let mut a = [[0f32; L]; M];
    let mut b = [[0f32; L]; M];
    for (t, &first) in rows.iter().enumerate() {
        backward::<L, FMA, PAIRS, M>(|p| &sums[p][t][0], &mut a);
        backward::<L, FMA, PAIRS, M>(|p| &sums[p][t][1], &mut b);
        for (j, (a, b)) in a.iter().zip(&b).enumerate() {
            let row = first + j * dilation;
            if row < end {
                // SAFETY: the caller's.
                unsafe { gate.finish::<FMA>(row, a, b) };
            }
        }
    }
}

/// Transforms the input of the tile whose first output is row `first`, to `[products][groups][batch][width]`
/// in `v`.
#[inline(always)]
fn input<const L: usize, const FMA: bool, const PAIRS: usize>(
    task: &WinogradTask<'_>,
    first: usize,
    batch: usize,
    v: &mut [f32],
) {
    let products = 2 * PAIRS + 2;
    let Plan { groups, taps, .. } = task.plan;
    let outputs = products + 1 - taps;
    let width = task.c_in.next_multiple_of(L);
    let apart = task.dilation * task.x_stride;
    // Number of existing rows: the last one is the last input of the last output.
    let known = task.rows + (task.kernel - 1) * task.dilation;
    assert!(v.len() >= ((products * groups - 1) * batch + 1) * width, "no room for the transformed input");
    for group in 0..groups {
        let row = first + group * taps * task.dilation;
        // The last group may have fewer taps: inputs used only by the missing taps are zeros, whether they
        // are known or not, because the last bits of the sums would reveal the difference.
        let seen = (task.kernel - group * taps + outputs - 1).min(products);
        let present = known.saturating_sub(row).div_ceil(task.dilation).min(seen);
        let x = if present == 0 {
            &[][..]
        } else {
            &task.x[row * task.x_stride..][..(present - 1) * apart + width]
        };
        for c in (0..width).step_by(L) {
            let mut tile = [[0f32; L]; PRODUCTS];
            if present == products {
                for (u, tile) in tile.iter_mut().enumerate().take(products) {
                    // SAFETY: `x` is cut to `products` rows of `width` floats, `apart` from each other.
                    *tile = unsafe { tile::load(x.as_ptr().add(u * apart + c)) };
                }
            } else {
                for (u, tile) in tile.iter_mut().enumerate().take(present) {
                    *tile = read(x, u * apart + c);
                }
            }
            let mut transformed = [[0f32; L]; PRODUCTS];
            forward::<L, FMA, PAIRS>(&tile, &mut transformed);
            for (p, value) in transformed.iter().enumerate().take(products) {
                // SAFETY: `v` has `products * groups` blocks of `batch` rows, if not all rows of the last
                // one.
                unsafe { store(v.as_mut_ptr().add((p * groups + group) * batch * width + c), value) };
            }
        }
    }
}
