//! From ids to frames: every frame takes the statistics of the id it belongs to (upstream's
//! `commons.generate_path` and the two matrix products with it).

use vitstream_onnx::{DType, GraphBuilder, Tensor, ValueId};

use crate::modules::dim;
use crate::text_encoder::sequence_mask;

/// Ids are searched in blocks of this many.
const BLOCK: usize = 64;

/// Above every frame number that can occur.
const BEYOND: f32 = 1e9;

/// Frames with their statistics.
pub(crate) struct Aligned {
    /// `f32[b, time, c]`; 0 beyond an item's last frame.
    pub(crate) stats: ValueId,
    /// `f32[b, time, 1]`.
    pub(crate) y_mask: ValueId,
}

/// `stats: f32[b, 1, t, c]`, `w_ceil: f32[b, t]`. Frame j belongs to id #{i : cumsum(w_ceil)_i <= j}.
///
/// Comparing every frame with every id would cost `time * t`; so the ids are put into blocks, the frame first finds its
/// block by the blocks' last ids and then its id within the block: `time * (t / 64 + 64)`.
pub(crate) fn align(g: &mut GraphBuilder, stats: ValueId, w_ceil: ValueId) -> Aligned {
    let (b, t) = (g.dim(stats, 0), g.dim(stats, 2));
    let total = g.reduce_sum(w_ceil, &[1], true);
    let one = g.scalar(1.0);
    let y_lengths = g.max(total, one);
    let longest = g.reduce_max(y_lengths, &[0], false);
    let longest = g.cast(longest, DType::I64);
    let time = vitstream_onnx::Dim::symbol("time");
    g.define_symbol("time", longest);
    let frames = g.range(longest, &time);
    let lengths = g.cast(y_lengths, DType::I64);
    let lengths = g.reshape(lengths, std::slice::from_ref(&b));
    let y_mask = sequence_mask(g, frames, lengths);

    let ends = g.cumsum(w_ceil, 1);
    let at = g.cast(frames, DType::F32);
    let at = g.reshape(at, &[dim(1), time.clone(), dim(1)]);
    let index = search(g, ends, at);

    // Rows of all items one below the other, so that one Gather serves the batch.
    let item = g.dim_value(&b);
    let item = g.range(item, &b);
    let item = g.reshape(item, &[b.clone(), dim(1)]);
    let length = g.dim_value(&t);
    let first = g.mul(item, length);
    let last = g.constant(Tensor::i64(&[1], &[1]));
    let last = g.sub(length, last);
    let inside = g.min(index, last);
    let row = g.add(inside, first);
    let channels = g.dim(stats, 3);
    let rows = g.reshape(stats, &[&b * &t, channels]);
    let gathered = g.gather(rows, row, 0);

    // Beyond its last id an item has no statistics: upstream's path is empty there.
    let at = g.reshape(at, &[dim(1), time]);
    let valid = g.less(at, total);
    let valid = g.cast(valid, DType::F32);
    let valid = g.unsqueeze(valid, &[2]);
    Aligned { stats: g.mul(gathered, valid), y_mask }
}

/// How many of `ends: f32[b, t]`, ascending, are at most `at: f32[1, time, 1]`: int64 `[b, time]`.
fn search(g: &mut GraphBuilder, ends: ValueId, at: ValueId) -> ValueId {
    let (b, t, time) = (g.dim(ends, 0), g.dim(ends, 1), g.dim(at, 1));
    let blocks = vitstream_onnx::Dim::symbol("blocks");
    let length = g.dim_value(&t);
    let (more, size) = (g.ints(&[BLOCK as i64 - 1]), g.ints(&[BLOCK as i64]));
    let rounded = g.add(length, more);
    let count = g.div(rounded, size);
    g.define_symbol("blocks", count);
    let filled = &blocks * &dim(BLOCK);
    let padded = g.pad_dims(ends, &[dim(0), dim(0), dim(0), &filled - &t], BEYOND);
    let table = g.reshape(padded, &[&b * &blocks, dim(BLOCK)]);

    let block_ends = g.slice(table, 1, &dim(BLOCK - 1), &dim(1));
    let block_ends = g.reshape(block_ends, &[b.clone(), dim(1), blocks]);
    let passed = g.less_or_equal(block_ends, at);
    let passed = g.cast(passed, DType::I64);
    let block = g.reduce_sum(passed, &[2], false);
    let last = g.ints(&[1]);
    let last = g.sub(count, last);
    let block = g.min(block, last);

    let item = g.dim_value(&b);
    let item = g.range(item, &b);
    let item = g.reshape(item, &[b, dim(1)]);
    let first = g.mul(item, count);
    let row = g.add(block, first);
    let candidates = g.gather(table, row, 0);
    let passed = g.less_or_equal(candidates, at);
    let passed = g.cast(passed, DType::I64);
    let within = g.reduce_sum(passed, &[2], false);
    let before = g.mul(block, size);
    debug_assert_eq!(g.dim(within, 1), time);
    g.add(before, within)
}
