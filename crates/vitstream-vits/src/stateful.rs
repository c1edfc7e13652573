//! The decoder chunk by chunk: every convolution keeps the last input steps that it has seen, so no frame is
//! computed twice.
//!
//! A convolution with a context of n steps over its state followed by the new steps, without padding, gives
//! exactly the outputs that are known by now. Before the first chunk the state holds the zeros of the left
//! padding; after the last chunk the zeros of the right padding are appended at the convolution's own input
//! (padding the latent would not be equivalent, because biases make it non-zero further in). The outputs that
//! a convolution cannot know yet are its lag; where signals of different lag meet, the earlier one passes
//! through a delay, whose length is 0 before the first chunk.
//!
//! One graph serves all chunks: lengths differ only in the first and the last call.

use std::collections::{BTreeMap, HashMap};

use vitstream_onnx::{ConvAxis, DType, Dim, GraphBuilder, Tensor, ValueId};

use crate::modules::{Conv1d, dim};
use crate::strided::Strided;
use crate::timeline::{Signal, Timeline, add, copy, pointwise};
use crate::upsample::ConvTranspose1d;

/// Larger than any length, so that a slice with this end takes everything.
const ALL: i64 = 1 << 40;

/// A state carried from one call to the next.
pub(crate) struct State {
    /// Scope path; unique.
    pub(crate) name: String,
    /// Shape at the first call, `f32[1, channels, 1, length]`, all zeros; the length may change later.
    pub(crate) initial: [usize; 4],
    next: ValueId,
}

/// The part of a signal that convolutions see: the last `left + lag` steps and the new ones. A convolution
/// with padding p reads it without the oldest `left - p` and the newest `lag - p` steps, and its results are
/// then `lag` steps late. The signal itself without the oldest `left` and the newest `lag` steps is equally
/// late, which residuals need.
#[derive(Clone, Copy)]
struct Window {
    /// Zeros before the first step.
    left: usize,
    /// Steps held back, and the number of zeros after the last step.
    lag: usize,
}

/// Two signals that are channels of a single one, and therefore share a state.
#[derive(Clone, Copy)]
struct Joint {
    whole: ValueId,
    parts: [ValueId; 2],
}

/// Realises the decoder chunk by chunk, for batch 1, without masks.
pub(crate) struct Stateful {
    /// int64 `[1]`: 1 if the chunk is the last, else 0.
    last: ValueId,
    states: Vec<State>,
    /// Announced windows, by signal.
    windows: HashMap<ValueId, Window>,
    /// Signals with their state prepended, by value.
    extended: HashMap<ValueId, ValueId>,
    /// LeakyReLU of the extended signals.
    active: HashMap<ValueId, ValueId>,
    /// Signals that are channels of a joint one, by value.
    joint: HashMap<ValueId, Joint>,
    /// Delayed signals, by value and delay.
    delayed: HashMap<(ValueId, usize), ValueId>,
    /// Signals in the blocked layout, by value.
    addends: HashMap<ValueId, ValueId>,
    /// Position at which a delayed signal is cut, by delay.
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
            windows: HashMap::new(),
            extended: HashMap::new(),
            active: HashMap::new(),
            joint: HashMap::new(),
            delayed: HashMap::new(),
            addends: HashMap::new(),
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

    /// Creates a state of `channels` and, initially, `length` steps. Returns its index and its value.
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

    /// Zeros in the last call, an empty tensor before.
    fn tail(&mut self, g: &mut GraphBuilder, channels: usize, length: usize) -> ValueId {
        if let Some(&tail) = self.tails.get(&(channels, length)) {
            return tail;
        }
        let steps_of_tail = Dim::symbol(format!("tail.{length}"));
        let (last, count) = (self.last, g.ints(&[length as i64]));
        let steps = g.mul(last, count);
        g.define_dim(&steps_of_tail, steps);
        let shape = [dim(1), dim(channels), dim(1), steps_of_tail];
        let tail = g.fill(&shape, Tensor::f32(&[1], &[0.0]));
        self.tails.insert((channels, length), tail);
        tail
    }

    /// The signal with its state before it and the zeros at the end after it. `pads` is the reach of the
    /// convolution that is about to read it, for a signal without an announced window.
    fn extend(&mut self, g: &mut GraphBuilder, x: ValueId, pads: Window, wait: usize) -> (ValueId, Window) {
        let window = *self.windows.entry(x).or_insert(pads);
        let keep = window.left + window.lag + wait;
        if keep == 0 {
            return (x, window);
        }
        if let Some(&extended) = self.extended.get(&x) {
            return (extended, window);
        }
        if let Some(&Joint { whole, parts }) = self.joint.get(&x) {
            let (extended, window) = self.extend(g, whole, window, wait);
            let channels = parts.map(|part| g.const_dim(part, 1));
            let extended = g.split(extended, 1, &channels);
            for (part, value) in parts.into_iter().zip(extended) {
                self.windows.insert(part, window);
                self.extended.insert(part, value);
            }
            return (self.extended[&x], window);
        }
        let channels = g.const_dim(x, 1);
        let (at, state) = self.state(g, "context", channels, window.left);
        let mut parts = vec![state, x];
        if window.lag > 0 {
            parts.push(self.tail(g, channels, window.lag));
        }
        let extended = g.concat(&parts, 3);
        let (start, end) = (g.ints(&[-(keep as i64)]), g.ints(&[ALL]));
        let length = Dim::symbol(format!("{}.next_length", self.states[at].name));
        self.states[at].next = g.slice_at(extended, 3, start, end, &length);
        self.extended.insert(x, extended);
        (extended, window)
    }

    /// `extended` without its oldest `from` and newest `to` steps.
    fn trim(
        &mut self,
        g: &mut GraphBuilder,
        extended: ValueId,
        from: usize,
        to: usize,
        length: &Dim,
    ) -> ValueId {
        if from + to == 0 {
            return extended;
        }
        let end = if to == 0 { ALL } else { -(to as i64) };
        let (start, end) = (g.ints(&[from as i64]), g.ints(&[end]));
        g.slice_at(extended, 3, start, end, length)
    }

    /// A convolution of `extended`, the form of `x` in `window`.
    fn conv_in(
        &mut self,
        g: &mut GraphBuilder,
        x: Signal,
        extended: ValueId,
        window: Window,
        conv: &Conv1d,
    ) -> Signal {
        let pad = conv.padding();
        let (from, to) = (window.left.saturating_sub(pad), window.lag.saturating_sub(conv.context() - pad));
        let lag = x.lag + window.lag;
        let inner = &Self::steps(x.rate, lag) + &dim(conv.context());
        let trimmed = self.trim(g, extended, from, to, &inner);
        let axis = ConvAxis { dilation: conv.dilation, ..ConvAxis::default() };
        let y = conv.emit_2d(g, trimmed, axis);
        Self::signal(g, y, x.rate, lag)
    }

    /// Returns the two halves of `joint` as separate signals.
    fn part(&mut self, g: &mut GraphBuilder, joint: Signal, channels: [usize; 2]) -> (Signal, Signal) {
        let parts = g.split(joint.value, 1, &channels);
        let parts = [parts[0], parts[1]];
        for part in parts {
            self.joint.insert(part, Joint { whole: joint.value, parts });
        }
        (joint.with(parts[0]), joint.with(parts[1]))
    }

    /// The signal delayed by `steps`.
    fn delay(&mut self, g: &mut GraphBuilder, x: Signal, steps: usize) -> Signal {
        if steps == 0 {
            return x;
        }
        if let Some(&value) = self.delayed.get(&(x.value, steps)) {
            return Self::signal(g, value, x.rate, x.lag + steps);
        }
        if let (Some(&window), Some(&extended)) = (self.windows.get(&x.value), self.extended.get(&x.value))
            && (1..=steps).contains(&window.lag)
        {
            let lag = x.lag + window.lag;
            let value = self.trim(g, extended, window.left, window.lag, &Self::steps(x.rate, lag));
            let delayed = self.delay(g, Signal { value, lag, rate: x.rate }, steps - window.lag);
            self.delayed.insert((x.value, steps), delayed.value);
            return delayed;
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

    /// The position at which held-back steps are cut: `steps` before the end, but at the very end in the last
    /// call.
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
        let pads = Window { left: conv.padding(), lag: conv.context() - conv.padding() };
        let (extended, window) = self.extend(g, x.value, pads, 0);
        self.conv_in(g, x, extended, window, conv)
    }

    /// The state holds x, which the residual needs too; the activation is recomputed on the few steps kept.
    fn conv_of_leaky(&mut self, g: &mut GraphBuilder, x: Signal, slope: f32, conv: &Conv1d) -> Signal {
        let pads = Window { left: conv.padding(), lag: conv.context() - conv.padding() };
        let (extended, window) = self.extend(g, x.value, pads, 0);
        let active = *self.active.entry(extended).or_insert_with(|| g.leaky_relu(extended, slope));
        self.conv_in(g, x, active, window, conv)
    }

    fn window(&mut self, x: Signal, left: usize, lag: usize) {
        self.windows.entry(x.value).or_insert(Window { left, lag });
    }

    fn upsample(&mut self, g: &mut GraphBuilder, x: Signal, up: &ConvTranspose1d) -> Signal {
        let (past, future) = up.reach();
        let (extended, _) = self.extend(g, x.value, Window { left: past, lag: future }, 0);
        let lag = x.lag + future;
        let phases: Vec<ValueId> = up
            .phase_groups()
            .iter()
            .enumerate()
            .map(|(i, group)| {
                let inner = &Self::steps(x.rate, lag) + &dim(group.past + group.future);
                let part = self.trim(g, extended, past - group.past, future - group.future, &inner);
                let y = g.scope(&format!("phases.{i}"), |g| group.conv.emit_2d(g, part, ConvAxis::default()));
                Self::signal(g, y, x.rate, lag).value
            })
            .collect();
        let phases = if let [only] = phases[..] { only } else { g.concat(&phases, 1) };
        let value = up.interleave(g, phases);
        Self::signal(g, value, x.rate * up.stride, lag * up.stride)
    }

    fn align(&mut self, g: &mut GraphBuilder, signals: &[Signal]) -> Vec<Signal> {
        let latest = signals.iter().map(|signal| signal.lag).max().unwrap_or(0);
        signals.iter().map(|&signal| self.delay(g, signal, latest - signal.lag)).collect()
    }

    /// A signal taken from its state has left the blocked layout, and additions to it would not be fused.
    fn addend(&mut self, g: &mut GraphBuilder, x: Signal) -> Signal {
        let value = *self.addends.entry(x.value).or_insert_with(|| copy(g, x).value);
        x.with(value)
    }

    fn mask(&mut self, _: &mut GraphBuilder, x: Signal) -> Signal {
        x
    }

    /// Joins two signals into one, so that a layer needs one state and one delay instead of two.
    fn together(&mut self, g: &mut GraphBuilder, (x, x1): (Signal, Signal)) -> (Signal, Signal) {
        let pair = self.align(g, &[x, x1]);
        let channels = [x, x1].map(|signal| g.const_dim(signal.value, 1));
        let joint = g.concat(&[pair[0].value, pair[1].value], 1);
        self.part(g, pair[0].with(joint), channels)
    }

    fn carry(
        &mut self,
        g: &mut GraphBuilder,
        (x, x1): (Signal, Signal),
        y: Signal,
        [first, second]: [(&str, &Conv1d); 2],
    ) -> (Signal, Signal) {
        let channels = [x, x1].map(|signal| g.const_dim(signal.value, 1));
        let whole = self.joint[&x.value].whole;
        let both = first.1.stacked(second.1);
        let moved = g.scope(first.0, |g| pointwise(g, y, &both));
        let sum = add(g, self, moved, x.with(whole));
        self.part(g, sum, channels)
    }

    /// Holds back a few more steps, so that they fill a block.
    fn conv_post(&mut self, g: &mut GraphBuilder, x: Signal, conv: &Conv1d) -> Signal {
        let conv = Strided::new(g, x.rate, conv);
        let pad = conv.padding;
        let wait = (conv.samples - (x.lag + pad) % conv.samples) % conv.samples;
        let lag = x.lag + pad + wait;
        let (extended, _) = self.extend(g, x.value, Window { left: pad, lag: pad }, wait);
        let value = conv.emit(g, extended, 0, &Self::steps(x.rate, lag));
        Signal { value, lag, rate: x.rate }
    }
}
