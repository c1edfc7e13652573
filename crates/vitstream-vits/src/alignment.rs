//! From ids to frames: every frame takes the statistics of its id (upstream's `commons.generate_path` and the
//! two matrix products with its result).

use vitstream_onnx::{DType, Dim, GraphBuilder, Tensor, ValueId};

use crate::modules::dim;
use crate::text_encoder::sequence_mask;

/// Number of ids in a block of the search.
const BLOCK: usize = 64;

/// A number above every possible frame number.
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
/// Comparing every frame with every id would cost `time * t`. The ids are therefore divided into blocks: a
/// frame first finds its block by the blocks' last ids, then its id within the block, at a cost of `time * (t
/// / 64 + 64)`.
pub(crate) fn align(g: &mut GraphBuilder, stats: ValueId, w_ceil: ValueId) -> Aligned {
    let (b, t) = (g.dim(stats, 0), g.dim(stats, 2));
    let total = g.reduce_sum(w_ceil, &[1], true);
    let one = g.scalar(1.0);
    let y_lengths = g.max(total, one);
    let longest = g.reduce_max(y_lengths, &[0], false);
    let longest = g.cast(longest, DType::I64);
    let time = Dim::symbol("time");
    g.define_dim(&time, longest);
    let frames = g.range(longest, &time);
    let lengths = g.cast(y_lengths, DType::I64);
    let lengths = g.reshape(lengths, std::slice::from_ref(&b));
    let y_mask = sequence_mask(g, frames, lengths);

    let ends = g.cumsum(w_ceil, 1);
    let at = g.cast(frames, DType::F32);
    let at = g.reshape(at, &[dim(1), time.clone(), dim(1)]);
    let index = search(g, ends, at);

    // The rows of all items follow each other, so that one Gather serves the batch.
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

    // After its last id an item has no statistics: upstream's path is empty there.
    let at = g.reshape(at, &[dim(1), time]);
    let valid = g.less(at, total);
    let valid = g.cast(valid, DType::F32);
    let valid = g.unsqueeze(valid, &[2]);
    Aligned { stats: g.mul(gathered, valid), y_mask }
}

/// For each `at: f32[1, time, 1]`, the number of `ends: f32[b, t]` (ascending) that are at most `at`: int64
/// `[b, time]`.
fn search(g: &mut GraphBuilder, ends: ValueId, at: ValueId) -> ValueId {
    let (b, t, time) = (g.dim(ends, 0), g.dim(ends, 1), g.dim(at, 1));
    let blocks = Dim::symbol("blocks");
    let length = g.dim_value(&t);
    let (more, size) = (g.ints(&[BLOCK as i64 - 1]), g.ints(&[BLOCK as i64]));
    let rounded = g.add(length, more);
    let count = g.div(rounded, size);
    g.define_dim(&blocks, count);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::support::{self, Array, CASES, Net, Random, assert_close};

    fn alignment(c: usize) -> Net {
        let mut builder = GraphBuilder::new("align", 15);
        let g = &mut builder;
        let (b, t) = (Dim::symbol("b"), Dim::symbol("t"));
        let stats = g.input("stats", DType::F32, vec![b.clone(), t.clone(), dim(c)]);
        let w_ceil = g.input("w_ceil", DType::F32, vec![b, t]);
        let stats = g.unsqueeze(stats, &[1]);
        let aligned = align(g, stats, w_ceil);
        g.output("frames", aligned.stats);
        g.output("y_mask", aligned.y_mask);
        Net::new(builder.finish().unwrap())
    }

    /// Upstream's order: each id repeated for its duration, then zeros.
    fn reference(stats: &Array, w_ceil: &Array) -> (Array, Array) {
        let [b, t, c] = stats.dims[..] else { unreachable!() };
        let lengths: Vec<usize> =
            w_ceil.floats().chunks_exact(t).map(|w| (w.iter().sum::<f32>() as usize).max(1)).collect();
        let time = *lengths.iter().max().unwrap();
        let (mut frames, mut mask) = (Vec::new(), Vec::new());
        for (item, &length) in lengths.iter().enumerate() {
            let mut rows = Vec::new();
            for i in 0..t {
                let at = item * t + i;
                for _ in 0..w_ceil.floats()[at] as usize {
                    rows.extend_from_slice(&stats.floats()[at * c..][..c]);
                }
            }
            rows.resize(time * c, 0.0);
            frames.extend(rows);
            mask.extend((0..time).map(|j| if j < length { 1.0 } else { 0.0 }));
        }
        (Array::f32(&[b, time, c], frames), Array::f32(&[b, time, 1], mask))
    }

    #[test]
    fn every_frame_finds_its_id() {
        let net = alignment(3);
        let check = |b: usize, t: usize, longest: usize, seed: u64| {
            let random = &mut Random(seed);
            let stats = Array::noise(&[b, t, 3], seed);
            let w_ceil: Vec<f32> = (0..b * t).map(|_| random.within(0..longest + 1) as f32).collect();
            let w_ceil = Array::f32(&[b, t], w_ceil);
            let found = net.run([("stats", &stats), ("w_ceil", &w_ceil)]);
            let (frames, mask) = reference(&stats, &w_ceil);
            assert_eq!(found[0], frames, "{b} {t} {longest} {seed}");
            assert_eq!(found[1], mask, "{b} {t} {longest} {seed}");
        };
        // Only ids of length zero; ids around the blocks' ends; one long id.
        for (b, t, longest) in
            [(1, 1, 0), (3, 5, 0), (1, 63, 2), (2, 64, 2), (1, 65, 2), (2, 128, 1), (2, 1, 500)]
        {
            check(b, t, longest, 4);
        }
        let cases = (1usize..4, 1usize..200, 0usize..6, any::<u32>());
        let mut runner = support::runner(200);
        let run = runner.run(&cases, |(b, t, longest, seed)| {
            check(b, t, longest, u64::from(seed));
            Ok(())
        });
        run.unwrap();
    }

    #[test]
    fn frames_equal_pytorch() {
        for fixture in support::all() {
            let c = fixture.parts().1.inter_channels;
            let net = alignment(2 * c);
            for case_name in CASES {
                let Some(case) = fixture.case(case_name) else { continue };
                let (means, logs) = (case.get("enc_p.m_p").swapped(), case.get("enc_p.logs_p").swapped());
                let (b, t) = (means.dims[0], means.dims[1]);
                let rows = means.floats().chunks_exact(c).zip(logs.floats().chunks_exact(c));
                let stats = Array::f32(&[b, t, 2 * c], rows.flat_map(|(m, l)| [m, l].concat()).collect());
                let w_ceil = case.get("w_ceil").reshaped(&[b, t]);
                let found = net.run([("stats", &stats), ("w_ceil", &w_ceil)]);
                let what = format!("{} {case_name}", fixture.name);
                assert_eq!(&found[1].swapped(), case.get("y_mask"), "{what}: y_mask");

                let frames = found[0].swapped();
                let (m_p, logs_p) = (frames.slice(1, 0..c), frames.slice(1, c..2 * c));
                let silence = Array::full(&m_p.dims, 0.0);
                let noise = case.find("noise.p").unwrap_or(&silence);
                let scale = case.get("scales").floats()[0];
                let draws = m_p.floats().iter().zip(logs_p.floats()).zip(noise.floats());
                let z_p = draws.map(|((m, logs), noise)| m + noise * logs.exp() * scale);
                let z_p = Array::f32(&m_p.dims, z_p.collect());
                assert_close(&z_p, case.get("z_p"), 1e-6, &format!("{what}: z_p"));
            }
        }
    }
}
