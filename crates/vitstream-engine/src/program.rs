//! A network as a program: operations over streams of rows, and its execution as far as the input allows.
//!
//! Every stream is addressed by absolute time, so that an operation needs no notion of chunks: it computes
//! the rows that its input now determines, from where it stopped. Operations that look ahead lag behind their
//! input by themselves; sums of streams with different lag wait for the slower one, without a copy that
//! delays the faster. An operation that computes tiles does so only when all inputs of a tile are known, and
//! its tiles lie at fixed times: so pushes change no bit.

use std::sync::{Arc, Mutex};

use crate::conv::{Conv, ConvPost, Up};
use crate::error::Error;
use crate::kernels::{Arena, DotTask, Epilogue, Kernels};
use crate::lag::{Edge, Grid};
use crate::line::{Line, floats, padded};
use crate::rows::Rows;
use crate::spec::limit;

/// Most floats that the rows of a stream may take together, 128 MiB, whatever the kernels, dilations and branches
/// that make it keep them. Published voices need a twentieth of it.
const MAX_ROWS: usize = 1 << 25;

/// Index of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buf(usize);

/// Index of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpId(usize);

#[derive(Debug)]
struct BufSpec {
    channels: usize,
    /// Rows per frame.
    rate: usize,
    /// Zero rows of padding in front and at the end: the largest that a reader needs.
    before: usize,
    after: usize,
    /// Rows that a block of its segment has.
    block: usize,
    /// Who reads it, and how many rows back.
    readers: Vec<(OpId, usize)>,
    /// The operation that wrote to it last; none for what comes from outside.
    writer: Option<OpId>,
    /// Where what that operation wrote ends.
    edge: Edge,
    /// Fewest rows by which any row lies behind the frames, and most by which one that is still read does.
    least: i64,
    most: i64,
}

impl BufSpec {
    /// Rows that it holds at a time: those of a block, and what lies between the first to write and the last to
    /// read.
    fn rows(&self) -> usize {
        let kept = (self.most - self.least).max(self.before as i64);
        self.block + self.after + kept as usize
    }
}

/// The computation of an operation.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A convolution and what [`Epilogue::Linear`] does with it.
    Conv(Conv),
    /// A convolution and the gate.
    Gate(Conv),
    /// Up-sampling.
    Up(Up),
    /// The samples.
    Post(ConvPost),
}

/// An operation and the streams it reads and writes.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    pub(crate) input: Buf,
    pub(crate) residual: Option<Buf>,
    pub(crate) addend: Option<Buf>,
    /// Where the sums go, and whether they are added to what is there.
    pub(crate) raw: Option<(Buf, bool)>,
    /// Where the sums go through LeakyReLU, and its slope.
    pub(crate) act: Option<(Buf, f32)>,
}

impl Op {
    pub(crate) fn new(kind: Kind, input: Buf) -> Self {
        Self { kind, input, residual: None, addend: None, raw: None, act: None }
    }

    pub(crate) fn residual(mut self, buf: Buf) -> Self {
        self.residual = Some(buf);
        self
    }

    pub(crate) fn addend(mut self, buf: Buf) -> Self {
        self.addend = Some(buf);
        self
    }

    pub(crate) fn store(mut self, buf: Buf) -> Self {
        self.raw = Some((buf, false));
        self
    }

    pub(crate) fn accumulate(mut self, buf: Buf) -> Self {
        self.raw = Some((buf, true));
        self
    }

    pub(crate) fn activate(mut self, buf: Buf, slope: f32) -> Self {
        self.act = Some((buf, slope));
        self
    }

    /// Context rows before and after.
    fn reach(&self) -> (usize, usize) {
        match &self.kind {
            Kind::Conv(conv) | Kind::Gate(conv) => (conv.reach(), conv.reach()),
            Kind::Up(up) => up.reach(),
            Kind::Post(post) => (post.reach, post.reach),
        }
    }

    /// Rows of a block that must be computed at once.
    fn block(&self) -> usize {
        match &self.kind {
            Kind::Conv(conv) | Kind::Gate(conv) => conv.block(),
            Kind::Up(up) => up.block(),
            Kind::Post(_) => 1,
        }
    }

    /// Output rows of an input row.
    fn stride(&self) -> usize {
        if let Kind::Up(up) = &self.kind { up.stride() } else { 1 }
    }

    /// The streams of which a row is needed for each row of the result, besides the input.
    fn added(&self) -> impl Iterator<Item = Buf> {
        let accumulated = self.raw.and_then(|(buf, accumulate)| accumulate.then_some(buf));
        [self.residual, self.addend, accumulated].into_iter().flatten()
    }

    /// The streams that are written.
    fn written(&self) -> impl Iterator<Item = Buf> {
        [self.raw.map(|raw| raw.0), self.act.map(|act| act.0)].into_iter().flatten()
    }
}

/// An operation in its place.
#[derive(Debug)]
struct Step {
    op: Op,
    /// The streams that it reads, the input first, and who must have written what is read of each.
    reads: Vec<(Buf, Option<OpId>)>,
    /// The blocks in which it is computed.
    grid: Grid,
}

/// A speaker's share in the bias of an operation: `weight @ g + bias`.
#[derive(Debug)]
pub(crate) struct Cond {
    pub(crate) op: OpId,
    /// `[c_out, gin]`.
    pub(crate) weight: Vec<f32>,
    /// `[c_out]`, or empty.
    pub(crate) bias: Vec<f32>,
}

/// Operations of one rate. All but the first segment begin with the operation that feeds them.
#[derive(Debug)]
struct Segment {
    ops: std::ops::Range<usize>,
    /// Rows that the first operation consumes before the following segments run: what keeps the rows between
    /// in cache.
    block: i64,
}

/// The list of operations, shared by all streams.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) kernels: Kernels,
    bufs: Vec<BufSpec>,
    steps: Vec<Step>,
    segments: Vec<Segment>,
    pub(crate) conds: Vec<Cond>,
    /// Rows of the last segment's block.
    block: usize,
    /// Where the samples end.
    samples: Option<Edge>,
    /// The buffers of a stream that is no more: to be given memory costs a short utterance a tenth of its
    /// time.
    spare: Mutex<Option<Vec<Rows>>>,
}

impl Program {
    pub(crate) fn new(kernels: Kernels) -> Self {
        Self {
            kernels,
            bufs: Vec::new(),
            steps: Vec::new(),
            segments: Vec::new(),
            conds: Vec::new(),
            block: 0,
            samples: None,
            spare: Mutex::new(None),
        }
    }

    pub(crate) fn buffer(&mut self, channels: usize, rate: usize) -> Buf {
        self.bufs.push(BufSpec {
            channels,
            rate,
            before: 0,
            after: 0,
            block: self.block,
            readers: Vec::new(),
            writer: None,
            edge: Edge::frames(),
            least: i64::MAX,
            most: 0,
        });
        Buf(self.bufs.len() - 1)
    }

    /// Where a stream ends, as far as it is written by the operations so far.
    pub(crate) fn edge(&self, buf: Buf) -> Edge {
        self.bufs[buf.0].edge
    }

    /// Frames by which the samples lie behind at most, rounded up.
    ///
    /// # Errors
    /// When a stream would have to hold more rows than [`MAX_ROWS`] allows.
    pub(crate) fn finish(&mut self) -> Result<usize, Error> {
        let held = self.bufs.iter().map(|buf| buf.rows().saturating_mul(padded(buf.channels)));
        let held = held.fold(0usize, usize::saturating_add);
        limit("flow and dec", "number of floats that a stream keeps", held, 0..=MAX_ROWS, "at most 2^25")?;
        let samples = self.samples.map_or(0, Edge::most);
        let hop = self.samples.map_or(1, Edge::rate);
        Ok((samples as usize).div_ceil(hop as usize))
    }

    /// Begins a segment with the next operation, which makes `stride` rows of each of `block`.
    pub(crate) fn segment(&mut self, block: usize, stride: usize) {
        let at = self.steps.len();
        self.block = block * stride;
        self.segments.push(Segment { ops: at..at, block: block as i64 });
    }

    pub(crate) fn push(&mut self, op: Op) -> OpId {
        let id = OpId(self.steps.len());
        let (before, after) = op.reach();
        let reads: Vec<Buf> = std::iter::once(op.input).chain(op.added()).collect();
        let edges = reads.iter().map(|buf| self.bufs[buf.0].edge);
        let needs = edges.enumerate().map(|(i, edge)| if i == 0 { edge.behind(after as i64) } else { edge });
        let edge = needs.reduce(Edge::meet).unwrap_or_else(Edge::frames);
        let grid = edge.grid(op.block() as i64);
        let edge = edge.on(grid);

        let input = &mut self.bufs[op.input.0];
        input.before = input.before.max(before);
        input.after = input.after.max(after);
        let read: Vec<_> = reads.into_iter().map(|buf| (buf, self.bufs[buf.0].writer)).collect();
        for (i, &(Buf(buf), writer)) in read.iter().enumerate() {
            let back = if i == 0 { before } else { 0 };
            let buf = &mut self.bufs[buf];
            buf.readers.push((id, back));
            buf.most = buf.most.max(edge.most() + back as i64);
            if writer.is_none() {
                buf.least = 0;
            }
        }
        let out = edge.times(op.stride() as i64);
        for Buf(buf) in op.written() {
            let buf = &mut self.bufs[buf];
            buf.least = buf.least.min(out.least());
            (buf.writer, buf.edge) = (Some(id), out);
        }
        if let Kind::Post(_) = op.kind {
            self.samples = Some(out);
        }
        self.steps.push(Step { op, reads: read, grid });
        if let Some(segment) = self.segments.last_mut() {
            segment.ops.end = self.steps.len();
        }
        id
    }

    /// Buffers for a stream. A push never has more rows than a block; what lags keeps some more.
    fn buffers(&self) -> Vec<Rows> {
        let arena = Arena::default();
        self.bufs.iter().map(|b| Rows::within(&arena, b.channels, b.before, b.rows())).collect()
    }

    /// Bytes of packed weights.
    pub(crate) fn bytes(&self) -> usize {
        self.steps
            .iter()
            .map(|step| match &step.op.kind {
                Kind::Conv(conv) | Kind::Gate(conv) => conv.bytes(),
                Kind::Up(up) => up.bytes(),
                Kind::Post(post) => size_of_val(post.weights.as_slice()),
            })
            .sum()
    }
}

/// The state of a stream.
#[derive(Debug)]
pub(crate) struct State {
    program: Arc<Program>,
    bufs: Vec<Rows>,
    /// Time up to which an operation has consumed its input.
    done: Vec<i64>,
    /// Biases that differ for this stream's speaker.
    biases: Vec<Option<Vec<Line>>>,
    /// Frames of the utterance, once known.
    total: Option<i64>,
}

impl State {
    /// `g`: `[gin_channels]`, of the length that every [`Cond`] expects.
    pub(crate) fn new(program: Arc<Program>, g: &[f32]) -> Self {
        let mut biases = vec![None; program.steps.len()];
        for cond in &program.conds {
            let mut extra: Vec<f32> = cond.weight.chunks_exact(g.len()).map(|row| dot(row, g)).collect();
            for (e, b) in extra.iter_mut().zip(&cond.bias) {
                *e += b;
            }
            if let Kind::Conv(conv) | Kind::Gate(conv) = &program.steps[cond.op.0].op.kind {
                biases[cond.op.0] = Some(conv.bias_with(&extra));
            }
        }
        // Never waited for: in the child of a fork nobody would give back what another thread had locked.
        let spare = program.spare.try_lock().ok().and_then(|mut spare| spare.take());
        let bufs = spare.unwrap_or_else(|| program.buffers());
        Self { bufs, done: vec![0; program.steps.len()], biases, total: None, program }
    }

    /// The rows of an input stream.
    pub(crate) fn input(&mut self, buf: Buf) -> &mut Rows {
        &mut self.bufs[buf.0]
    }

    /// Bytes held by the stream.
    pub(crate) fn bytes(&self) -> usize {
        self.bufs.iter().map(Rows::bytes).sum()
    }

    /// Declares that the input is complete.
    pub(crate) fn complete(&mut self, frames: i64) {
        self.total = Some(frames);
    }

    /// Computes everything that is now known and appends the samples to `out`.
    pub(crate) fn advance(&mut self, out: &mut Vec<f32>) {
        self.advance_segment(0, out);
    }

    fn advance_segment(&mut self, segment: usize, out: &mut Vec<f32>) {
        let program = Arc::clone(&self.program);
        let Some(Segment { ops, block }) = program.segments.get(segment) else { return };
        loop {
            let limit = self.done[ops.start] + block;
            // The first segment has several inputs and is fed in blocks from outside.
            let limited = segment > 0;
            for op in ops.clone() {
                let limit = if limited && op == ops.start { limit } else { i64::MAX };
                self.run(&program, op, limit, out);
            }
            self.retire(&program, ops);
            self.advance_segment(segment + 1, out);
            if !limited || self.done[ops.start] >= self.end(&program, ops.start, i64::MAX) {
                return;
            }
        }
    }

    /// Time up to which an operation's output is determined, in rows of its input.
    fn available(&mut self, program: &Program, op: usize) -> i64 {
        let step = &program.steps[op];
        let mut available = i64::MAX;
        for (i, &(Buf(buf), writer)) in step.reads.iter().enumerate() {
            let spec = &program.bufs[buf];
            let known = match writer {
                Some(OpId(writer)) => self.done[writer] * program.steps[writer].op.stride() as i64,
                None => self.bufs[buf].end(),
            };
            let total = self.total.map(|frames| frames * spec.rate as i64);
            let complete = total.is_some_and(|total| known >= total);
            if complete && Some(self.bufs[buf].end()) == total {
                self.bufs[buf].pad(spec.after);
            }
            let after = if i == 0 { step.op.reach().1 as i64 } else { 0 };
            let end = if complete { total.unwrap_or(known) } else { known - after };
            available = available.min(end);
        }
        available
    }

    /// Whether all rows of an operation's input were known if it were known up to `time`.
    fn is_end(&self, program: &Program, op: usize, time: i64) -> bool {
        let rate = program.bufs[program.steps[op].op.input.0].rate as i64;
        self.total.is_some_and(|frames| frames * rate == time)
    }

    /// Time up to which an operation can be computed in whole blocks now, at most `limit`.
    fn end(&mut self, program: &Program, op: usize, limit: i64) -> i64 {
        let end = self.available(program, op).min(limit);
        // The last block may lack rows, which will never be.
        if self.is_end(program, op, end) { end } else { program.steps[op].grid.floor(end) }
    }

    /// Computes what an operation's inputs determine, up to `limit`.
    fn run(&mut self, program: &Program, op: usize, limit: i64, out: &mut Vec<f32>) {
        let end = self.end(program, op, limit);
        while self.done[op] < end {
            let to = program.steps[op].grid.stop(self.done[op], end);
            self.compute(program, op, to, out);
        }
    }

    /// Computes an operation from where it stopped up to `to`.
    fn compute(&mut self, program: &Program, op: usize, to: i64, out: &mut Vec<f32>) {
        let from = std::mem::replace(&mut self.done[op], to);
        let kernels = program.kernels;
        let this = &program.steps[op].op;
        let Op { kind, input, residual, addend, raw, act } = this;
        let stride = this.stride() as i64;
        let (first, end) = (from * stride, to * stride);
        let mut take = |buf: Buf| {
            let mut rows = std::mem::take(&mut self.bufs[buf.0]);
            rows.extend_to(end);
            (buf, rows)
        };
        let mut raw = raw.map(|(buf, accumulate)| (take(buf), accumulate));
        let mut act = act.map(|(buf, slope)| (take(buf), slope));
        let input = &self.bufs[input.0];
        let step = raw.as_ref().map(|r| r.0.1.stride()).or(act.as_ref().map(|a| a.0.1.stride())).unwrap_or(0);
        let accumulate = raw.as_ref().is_some_and(|r| r.1);
        let raw_rows = raw.as_mut().map(|((_, rows), _)| rows.since_mut(first));
        let act_rows = act.as_mut().map(|((_, rows), slope)| (rows.since_mut(first), *slope));
        match kind {
            Kind::Conv(conv) => {
                let epilogue = Epilogue::Linear {
                    residual: residual.map(|buf| self.bufs[buf.0].since(from)),
                    addend: addend.map(|buf| self.bufs[buf.0].since(from)),
                    accumulate,
                    raw: raw_rows,
                    act: act_rows,
                };
                conv.run(kernels, input, (from, to), self.biases[op].as_deref(), step, epilogue);
            }
            Kind::Gate(conv) => {
                if let Some(out) = raw_rows {
                    let epilogue = Epilogue::Gate { out };
                    conv.run(kernels, input, (from, to), self.biases[op].as_deref(), step, epilogue);
                }
            }
            Kind::Up(up) => up.run(kernels, input, (from, to), raw_rows, act_rows),
            Kind::Post(post) => {
                let at = out.len();
                out.resize(at + (to - from) as usize, 0.0);
                kernels.dot_tanh(&mut DotTask {
                    x: input.since(from - post.reach as i64),
                    x_stride: input.stride(),
                    weights: floats(&post.weights),
                    tap_step: post.dilation * input.stride(),
                    bias: post.bias,
                    out: &mut out[at..],
                });
            }
        }
        for (buf, rows) in [raw.map(|r| r.0), act.map(|a| a.0)].into_iter().flatten() {
            self.bufs[buf.0] = rows;
        }
    }

    /// Lets go of the rows that no operation will read again.
    fn retire(&mut self, program: &Program, ops: &std::ops::Range<usize>) {
        for op in ops.clone() {
            for &(Buf(buf), _) in &program.steps[op].reads {
                let wanted = program.bufs[buf].readers.iter();
                let keep = wanted.map(|&(OpId(op), before)| self.done[op] - before as i64).min();
                if let Some(keep) = keep {
                    self.bufs[buf].keep_from(keep);
                }
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let mut bufs = std::mem::take(&mut self.bufs);
        for (rows, spec) in bufs.iter_mut().zip(&self.program.bufs) {
            rows.restart(spec.before);
        }
        if let Ok(mut spare) = self.program.spare.try_lock() {
            *spare = Some(bufs);
        }
    }
}

/// Inner product in sixteen partial sums.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        for (s, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *s += a * b;
        }
    }
    sums.iter().sum()
}
