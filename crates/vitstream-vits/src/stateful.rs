//! Chunk by chunk: every convolution keeps the last input steps it has seen, so that no frame is computed twice.
//!
//! A convolution with a context of n steps over its state followed by the new steps, without padding, gives exactly the
//! outputs that are now known. Before the first chunk the state holds the zeros of the left padding; after the last
//! chunk the zeros of the right padding are appended at the convolution's own input (padding the latent would not do:
//! biases make it non-zero further in). What a convolution cannot know yet is its lag; where signals of different lag
//! meet, the earlier one waits in a delay, whose length is 0 before the first chunk.
//!
//! One graph serves all chunks: lengths vary on the first and the last call only.

use std::collections::{BTreeMap, HashMap};

use vitstream_onnx::{ConvAxis, DType, Dim, GraphBuilder, Tensor, ValueId};

use crate::modules::{Conv1d, dim};
use crate::timeline::{Signal, Timeline};
use crate::upsample::ConvTranspose1d;
use crate::whole::strided;

/// Larger than any length: as the end of a slice it means all.
const ALL: i64 = 1 << 40;

/// What is carried from one call to the next.
pub(crate) struct State {
    /// Scope path, unique.
    pub(crate) name: String,
    /// `f32[1, channels, 1, length]` at the first call, all zeros; other lengths later.
    pub(crate) initial: [usize; 4],
    next: ValueId,
}

/// Realises the decoder chunk by chunk, batch 1, without masks.
pub(crate) struct Stateful {
    /// int64 `[1]`: 1 when the chunk is the last, else 0.
    last: ValueId,
    states: Vec<State>,
    /// Signals that already stand behind their state, by value and context.
    extended: HashMap<(ValueId, usize), ValueId>,
    /// Delayed signals, by value and delay.
    delayed: HashMap<(ValueId, usize), ValueId>,
    /// Where a delayed signal is cut, by delay.
    cuts: BTreeMap<usize, ValueId>,
    /// Zeros that follow the last chunk, by channels and length.
    tails: BTreeMap<(usize, usize), ValueId>,
    names: HashMap<String, usize>,
}

impl Stateful {
    pub(crate) fn new(last: ValueId) -> Self {
        Self {
            last,
            states: Vec::new(),
            extended: HashMap::new(),
            delayed: HashMap::new(),
            cuts: BTreeMap::new(),
            tails: BTreeMap::new(),
            names: HashMap::new(),
        }
    }

    /// Declares the states as outputs.
    pub(crate) fn finish(self, g: &mut GraphBuilder) -> Vec<State> {
        for state in &self.states {
            g.output(&format!("{}.next", state.name), state.next);
        }
        self.states
    }

    /// The number of new steps of a signal in one call.
    fn steps(rate: usize, lag: usize) -> Dim {
        if (rate, lag) == (1, 0) { Dim::symbol("frames") } else { Dim::symbol(format!("steps.{rate}.{lag}")) }
    }

    /// Names the length of a signal, which symbols cannot derive from its inputs.
    fn signal(g: &mut GraphBuilder, value: ValueId, rate: usize, lag: usize) -> Signal {
        let mut shape = g.shape(value).to_vec();
        if let Some(length) = shape.last_mut() {
            *length = Self::steps(rate, lag);
        }
        Signal { value: g.assume_shape(value, shape), lag, rate }
    }

    /// A new state of `channels` and, at first, `length` steps. Returns its place and its value.
    fn state(
        &mut self,
        g: &mut GraphBuilder,
        kind: &str,
        channels: usize,
        length: usize,
    ) -> (usize, ValueId) {
        let base = g.key(kind);
        let count = self.names.entry(base.clone()).or_insert(0);
        *count += 1;
        let name = if *count == 1 { base } else { format!("{base}.{}", *count - 1) };
        let shape = vec![dim(1), dim(channels), dim(1), Dim::symbol(format!("{name}.length"))];
        let input = g.input(&format!("{name}.state"), DType::F32, shape);
        self.states.push(State { name, initial: [1, channels, 1, length], next: input });
        (self.states.len() - 1, input)
    }

    /// Zeros in the last call, nothing before.
    fn tail(&mut self, g: &mut GraphBuilder, channels: usize, length: usize) -> ValueId {
        if let Some(&tail) = self.tails.get(&(channels, length)) {
            return tail;
        }
        let symbol = format!("tail.{length}");
        let (last, count) = (self.last, g.ints(&[length as i64]));
        let steps = g.mul(last, count);
        g.define_symbol(&symbol, steps);
        let shape = [dim(1), dim(channels), dim(1), Dim::symbol(symbol)];
        let tail = g.fill(&shape, Tensor::f32(&[1], &[0.0]));
        self.tails.insert((channels, length), tail);
        tail
    }

    /// The signal behind the `left` zeros or the last `keep` steps of before, and before `right` zeros at the end.
    fn extend(
        &mut self,
        g: &mut GraphBuilder,
        x: ValueId,
        left: usize,
        right: usize,
        keep: usize,
    ) -> ValueId {
        if keep == 0 {
            return x;
        }
        if let Some(&extended) = self.extended.get(&(x, keep)) {
            return extended;
        }
        let channels = g.const_dim(x, 1);
        let (at, state) = self.state(g, "context", channels, left);
        let mut parts = vec![state, x];
        if right > 0 {
            parts.push(self.tail(g, channels, right));
        }
        let extended = g.concat(&parts, 3);
        let (start, end) = (g.ints(&[-(keep as i64)]), g.ints(&[ALL]));
        let length = Dim::symbol(format!("{}.next_length", self.states[at].name));
        self.states[at].next = g.slice_at(extended, 3, start, end, &length);
        self.extended.insert((x, keep), extended);
        extended
    }

    /// The signal `steps` later.
    fn delay(&mut self, g: &mut GraphBuilder, x: Signal, steps: usize) -> Signal {
        if steps == 0 {
            return x;
        }
        if let Some(&value) = self.delayed.get(&(x.value, steps)) {
            return Self::signal(g, value, x.rate, x.lag + steps);
        }
        let channels = g.const_dim(x.value, 1);
        let (at, state) = self.state(g, "delay", channels, 0);
        let joined = g.concat(&[state, x.value], 3);
        let cut = self.cut(g, steps);
        let (zero, all) = (g.ints(&[0]), g.ints(&[ALL]));
        let value = g.slice_at(joined, 3, zero, cut, &Self::steps(x.rate, x.lag + steps));
        let length = Dim::symbol(format!("{}.next_length", self.states[at].name));
        self.states[at].next = g.slice_at(joined, 3, cut, all, &length);
        self.delayed.insert((x.value, steps), value);
        Signal { value, lag: x.lag + steps, rate: x.rate }
    }

    /// Where to cut what is held back: `steps` before the end, but at the very end in the last call.
    fn cut(&mut self, g: &mut GraphBuilder, steps: usize) -> ValueId {
        if let Some(&cut) = self.cuts.get(&steps) {
            return cut;
        }
        let (all, back) = (g.ints(&[ALL]), g.ints(&[-(steps as i64)]));
        let release = g.mul(self.last, all);
        let cut = g.add(release, back);
        self.cuts.insert(steps, cut);
        cut
    }
}

impl Timeline for Stateful {
    fn conv(&mut self, g: &mut GraphBuilder, x: Signal, conv: &Conv1d) -> Signal {
        let pad = conv.padding();
        let extended = self.extend(g, x.value, pad, conv.context() - pad, conv.context());
        let axis = ConvAxis { dilation: conv.dilation, ..ConvAxis::default() };
        let y = conv.emit_2d(g, extended, axis);
        Self::signal(g, y, x.rate, x.lag + pad)
    }

    fn upsample(&mut self, g: &mut GraphBuilder, x: Signal, up: &ConvTranspose1d) -> Signal {
        let group = up.one_group();
        let extended = self.extend(g, x.value, group.past, group.future, group.past + group.future);
        let phases = group.conv.emit_2d(g, extended, ConvAxis::default());
        let phases = Self::signal(g, phases, x.rate, x.lag + group.future);
        let value = up.interleave(g, phases.value);
        Self::signal(g, value, x.rate * up.stride, phases.lag * up.stride)
    }

    fn align(&mut self, g: &mut GraphBuilder, signals: &[Signal]) -> Vec<Signal> {
        let latest = signals.iter().map(|signal| signal.lag).max().unwrap_or(0);
        signals.iter().map(|&signal| self.delay(g, signal, latest - signal.lag)).collect()
    }

    fn mask(&mut self, _: &mut GraphBuilder, x: Signal) -> Signal {
        x
    }

    /// As on whole utterances, several samples at once; a few more steps wait until they fill a block.
    fn conv_post(&mut self, g: &mut GraphBuilder, x: Signal, conv: &Conv1d) -> Signal {
        let block = strided(g, x.rate, conv);
        let pad = conv.padding();
        let wait = (block.samples - (x.lag + pad) % block.samples) % block.samples;
        let extended = self.extend(g, x.value, pad, pad, conv.context() + wait);
        let axis = ConvAxis { stride: block.samples, ..ConvAxis::default() };
        let y = block.emit(g, extended, axis, &Self::steps(x.rate, x.lag + pad + wait));
        Signal { value: y, lag: x.lag + pad + wait, rate: x.rate }
    }
}
