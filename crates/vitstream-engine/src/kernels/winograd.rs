//! Winograd's method over batches of tiles: transform the input, multiply, transform back.

use super::generic::{Finish, fma, next_rows, read, write};
use super::task::{TransformTask, WinogradTask};
use super::tile::{self, Run, Source};
use crate::rows::{LINE, Line, floats_mut};
use crate::winograd::{Coefficients, MAX_TAPS, Plan};
use bytemuck::Zeroable;
use std::cell::Cell;

thread_local! {
    /// Room for the transformed input of some tiles and the transformed weights of a panel.
    static SCRATCH: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Batches of tiles that share a panel which has to be transformed first.
const BATCHES: usize = 4;

/// Most products of a tile.
const PRODUCTS: usize = 10;

/// `B^T x` of one register of channels.
///
/// A loop over lanes with a long scalar body: the shape that the compiler turns into one pass of whole registers.
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
fn backward<const L: usize, const FMA: bool, const PAIRS: usize, const M: usize>(
    products: &[[f32; L]; PRODUCTS],
    out: &mut [[f32; L]; M],
) {
    let powers = &Coefficients::<PAIRS>::POWERS;
    for l in 0..L {
        let mut sums = [0.0; PAIRS];
        let mut differences = [0.0; PAIRS];
        for i in 0..PAIRS {
            let (plus, minus) = (products[2 * i + 1][l], products[2 * i + 2][l]);
            sums[i] = plus + minus;
            differences[i] = plus - minus;
        }
        for j in 0..M {
            let terms = if j % 2 == 0 { &sums } else { &differences };
            // The first point is 1, whose powers are 1.
            let mut v = terms[0];
            if j == 0 {
                v += products[0][l];
            }
            if j + 1 == M {
                v += products[2 * PAIRS + 1][l];
            }
            for i in 1..PAIRS {
                v = fma::<FMA>(terms[i], powers[i][j], v);
            }
            out[j][l] = v;
        }
    }
}

/// `G w` of a panel of `width` channels, `[kernel][c_in][width]` to `[products][groups][c_in][width]`.
#[inline(always)]
fn weights<const L: usize, const FMA: bool, const PAIRS: usize, const M: usize>(
    kernel: usize,
    c_in: usize,
    width: usize,
    from: &[f32],
    to: &mut [f32],
) {
    let taps = 2 * PAIRS + 3 - M;
    let groups = kernel.div_ceil(taps);
    let g = &Coefficients::<PAIRS>::G;
    for group in 0..groups {
        let whole = (group + 1) * taps <= kernel;
        for at in (0..c_in * width).step_by(L) {
            let mut w = [[0f32; L]; MAX_TAPS];
            for (k, w) in w.iter_mut().enumerate().take(taps) {
                if whole || group * taps + k < kernel {
                    *w = read(from, (group * taps + k) * c_in * width + at);
                }
            }
            let mut out = [[0f32; L]; PRODUCTS];
            for l in 0..L {
                out[0][l] = w[0][l] * Coefficients::<PAIRS>::ZERO;
                out[2 * PAIRS + 1][l] = w[taps - 1][l];
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
            for (p, value) in out.iter().enumerate().take(2 * PAIRS + 2) {
                write(to, (p * groups + group) * c_in * width + at, value);
            }
        }
    }
}

/// Calls `$name` for the pairs and the outputs of a plan.
macro_rules! planned {
    ($plan:expr, $name:ident::<$($generic:ident),+>$args:tt) => {
        match ($plan.pairs, $plan.taps) {
            (2, 3) => $name::<$($generic),+, 2, 4>$args,
            (3, 3) => $name::<$($generic),+, 3, 6>$args,
            (3, 4) => $name::<$($generic),+, 3, 5>$args,
            (3, 5) => $name::<$($generic),+, 3, 4>$args,
            (4, 4) => $name::<$($generic),+, 4, 7>$args,
            (4, 5) => $name::<$($generic),+, 4, 6>$args,
            (4, 6) => $name::<$($generic),+, 4, 5>$args,
            (4, 7) => $name::<$($generic),+, 4, 4>$args,
            _ => unreachable!("Plan makes no other"),
        }
    };
}

/// Where panel `panel` of `rows` rows of channels begins, and its width.
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
        let (from, to) = (&task.weights[from..], &mut task.out[to..]);
        planned!(task.plan, weights::<L, FMA>(task.kernel, task.c_in, width, from, to));
    }
}

#[inline(always)]
pub(super) fn winograd_rows<const L: usize, const FMA: bool, const ROWS: usize>(
    task: &mut WinogradTask<'_>,
    run: Run<L>,
) {
    planned!(task.plan, tiles::<L, FMA, ROWS>(task, run));
}

/// Tiles of `M` outputs; those of a dilated convolution are `dilation` rows apart, and so are a tile's inputs.
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
    // Rows of a panel.
    let depth = if task.transformed { products * groups } else { task.kernel } * task.c_in;
    assert!(task.weights.len() >= depth * channels, "panels are too short");
    task.epilogue.check(task.rows, task.step, channels, L);

    let batch = ROWS.min(tile::ROWS);
    let batches = if task.transformed { 1 } else { BATCHES };
    // Of a batch's transformed input, and of a panel's transformed weights.
    let v_len = products * groups * batch * width;
    let w_len = if task.transformed { 0 } else { products * groups * task.c_in * 2 * L };
    let mut scratch = SCRATCH.take();
    if scratch.len() * LINE < batches * v_len + w_len {
        scratch.resize((batches * v_len + w_len).div_ceil(LINE), Line::zeroed());
    }
    // Rows that exist: the last that the last output needs.
    let known = task.rows + (task.kernel - 1) * task.dilation;

    // A phase is the outputs with the same remainder of row / dilation, cut into tiles.
    let phases = task.dilation.min(task.rows);
    let tiles_of = |phase: usize| (task.rows - phase).div_ceil(task.dilation).div_ceil(M);
    let count: usize = (0..phases).map(tiles_of).sum();
    let (mut phase, mut index) = (0, 0);
    let mut done = 0;
    let mut products_of = [[[[0f32; L]; 2]; tile::ROWS]; PRODUCTS];
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
                for group in 0..groups {
                    for c in (0..width).step_by(L) {
                        let mut x = [[0f32; L]; PRODUCTS];
                        for (u, x) in x.iter_mut().enumerate().take(products) {
                            let row = *first + (group * task.plan.taps + u) * task.dilation;
                            if row < known {
                                *x = read(task.x, row * task.x_stride + c);
                            }
                        }
                        let mut transformed = [[0f32; L]; PRODUCTS];
                        forward::<L, FMA, PAIRS>(&x, &mut transformed);
                        for (p, value) in transformed.iter().enumerate().take(products) {
                            write(v, ((p * groups + group) * batch + t) * width + c, value);
                        }
                    }
                }
            }
        }

        for panel in 0..channels.div_ceil(2 * L) {
            let (at, panel_width) = panel_at(L, channels, depth, panel);
            let mut panel_weights = &task.weights[at..][..depth * panel_width];
            let behind = panel_weights.as_ptr_range().end;
            if !task.transformed {
                weights::<L, FMA, PAIRS, M>(task.kernel, task.c_in, panel_width, panel_weights, w);
                panel_weights = w;
            }
            let wide = panel_width > L;
            // The next panel, of this layer or the next, lies behind this one.
            let distance = behind.addr().wrapping_sub(panel_weights.as_ptr().addr()) as isize;
            let mut ahead = distance / size_of::<f32>() as isize;
            for ((v, first_rows), &n) in v.chunks_exact(v_len).zip(&first_rows).zip(&heights) {
                if n == 0 {
                    break;
                }
                for (p, sums) in products_of.iter_mut().enumerate().take(products) {
                    let size = groups * task.c_in * panel_width;
                    let source = Source {
                        x: v[p * groups * batch * width..][..groups * batch * width].as_ptr(),
                        x_stride: width,
                        taps: groups,
                        tap_step: batch * width,
                        c_in: task.c_in,
                        ahead: if p * groups < task.kernel || task.transformed { ahead } else { 0 },
                        weights: panel_weights[p * size..][..size].as_ptr(),
                    };
                    // SAFETY: both slices are cut to what a tile of at most `batch` rows reads: `n - 1` rows of `width`
                    // floats plus `c_in <= width` in each of `groups` blocks of `batch` rows, and the panel.
                    unsafe { run(n, wide, source, sums) };
                }
                ahead = 0;
                let mut finish = Finish::<L, FMA>::new(&mut task.epilogue, task.bias, task.step, panel, wide);
                for (t, &first) in first_rows[..n].iter().enumerate() {
                    let mut halves = [[[0f32; L]; M]; 2];
                    for (half, out) in halves.iter_mut().enumerate().take(panel_width / L) {
                        let products = std::array::from_fn(|p| products_of[p][t][half]);
                        backward::<L, FMA, PAIRS, M>(&products, out);
                    }
                    for (j, (&a, &b)) in halves[0].iter().zip(&halves[1]).enumerate() {
                        let row = first + j * task.dilation;
                        if row < task.rows {
                            finish.row(row, &[a, b]);
                        }
                    }
                }
            }
        }
    }
    SCRATCH.set(scratch);
}
