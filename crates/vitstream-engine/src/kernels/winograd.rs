//! Winograd's method over batches of tiles: transform the input, multiply, transform back.

use super::generic::{Finish, fma, next_rows, read, write};
use super::task::WinogradTask;
use super::tile::{self, Run, Source};
use crate::rows::{LINE, Line, floats_mut};
use crate::winograd::Coefficients;
use bytemuck::Zeroable;
use std::cell::Cell;

thread_local! {
    /// Room for the transformed input of a batch of tiles.
    static SCRATCH: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

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

#[inline(always)]
pub(super) fn winograd_rows<const L: usize, const FMA: bool, const ROWS: usize>(
    task: &mut WinogradTask<'_>,
    run: Run<L>,
) {
    match (task.plan.pairs, task.plan.taps) {
        (2, 3) => tiles::<L, FMA, ROWS, 2, 4>(task, run),
        (3, 3) => tiles::<L, FMA, ROWS, 3, 6>(task, run),
        (3, 4) => tiles::<L, FMA, ROWS, 3, 5>(task, run),
        (3, 5) => tiles::<L, FMA, ROWS, 3, 4>(task, run),
        (4, 4) => tiles::<L, FMA, ROWS, 4, 7>(task, run),
        (4, 5) => tiles::<L, FMA, ROWS, 4, 6>(task, run),
        (4, 6) => tiles::<L, FMA, ROWS, 4, 5>(task, run),
        (4, 7) => tiles::<L, FMA, ROWS, 4, 4>(task, run),
        _ => unreachable!("Plan makes no other"),
    }
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
    assert!(task.weights.len() >= products * groups * task.c_in * channels, "panels are too short");
    task.epilogue.check(task.rows, task.step, channels, L);

    let batch = ROWS.min(tile::ROWS);
    let v_len = products * groups * batch * width;
    let mut scratch = SCRATCH.take();
    if scratch.len() * LINE < v_len {
        scratch.resize(v_len.div_ceil(LINE), Line::zeroed());
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
        let n = next_rows(count - done, batch);
        let mut first_rows = [0usize; tile::ROWS];
        for first in &mut first_rows[..n] {
            *first = phase + index * M * task.dilation;
            index += 1;
            if index == tiles_of(phase) {
                (phase, index) = (phase + 1, 0);
            }
        }

        let v = floats_mut(&mut scratch);
        for (t, &first) in first_rows[..n].iter().enumerate() {
            for group in 0..groups {
                for c in (0..width).step_by(L) {
                    let mut x = [[0f32; L]; PRODUCTS];
                    for (u, x) in x.iter_mut().enumerate().take(products) {
                        let row = first + (group * task.plan.taps + u) * task.dilation;
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

        let (wide, narrow) = (channels / (2 * L), !channels.is_multiple_of(2 * L));
        for panel in 0..wide + usize::from(narrow) {
            let is_wide = panel < wide;
            let registers = 1 + usize::from(is_wide);
            for (p, sums) in products_of.iter_mut().enumerate().take(products) {
                let weights =
                    panel * products * groups * task.c_in * 2 * L + p * groups * task.c_in * registers * L;
                let source = Source {
                    x: v[p * groups * batch * width..][..groups * batch * width].as_ptr(),
                    x_stride: width,
                    taps: groups,
                    tap_step: batch * width,
                    c_in: task.c_in,
                    weights: task.weights[weights..][..groups * task.c_in * registers * L].as_ptr(),
                };
                // SAFETY: both slices are cut to what a tile of at most `batch` rows reads: `n - 1` rows of `width`
                // floats plus `c_in <= width` in each of `groups` blocks of `batch` rows, and the panel.
                unsafe { run(n, is_wide, source, sums) };
            }
            let mut finish = Finish::<L, FMA>::new(&mut task.epilogue, task.bias, task.step, panel, is_wide);
            for (t, &first) in first_rows[..n].iter().enumerate() {
                let mut halves = [[[0f32; L]; M]; 2];
                for (half, out) in halves.iter_mut().enumerate().take(registers) {
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
        done += n;
    }
    SCRATCH.set(scratch);
}
