//! Compares the stream decoder with the whole decoder in the same runtime.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use proptest::prelude::*;
use support::{Array, Fixture, Net, Random, by_name, decoder_feeds, difference};
use vitstream_onnx::Graph;
use vitstream_vits::{NoiseSource, StateInfo, SynthesizerTrn};

/// Length of the longest tested utterance in frames: more than twice the frames of the first call.
const LONGEST: usize = 110;

/// Limit on the difference between streamed and whole audio.
const LIMIT: f32 = 1e-5;

/// Both decoders of a network, and an endless utterance.
struct Decoders {
    name: String,
    model: SynthesizerTrn,
    whole: Net,
    stream: Net,
    states: Vec<StateInfo>,
    look_ahead: usize,
    latent: Array,
    speaker: Option<Array>,
    /// Output of the whole decoder for the first frames, by their number.
    decoded: RefCell<HashMap<usize, Array>>,
}

impl Decoders {
    fn new(fixture: &Fixture) -> Self {
        let model = fixture.model();
        let latent = Array::noise(&[1, model.hparams.inter_channels, LONGEST], 17);
        Self::of(&fixture.name, model, latent)
    }

    fn of(name: &str, model: SynthesizerTrn, latent: Array) -> Self {
        let hp = &model.hparams;
        let stream = model.emit_stream_decoder(15).unwrap();
        Self {
            name: name.to_owned(),
            whole: Net::new(model.emit_decoder(15).unwrap()),
            stream: Net::new(stream.graph),
            states: stream.states,
            look_ahead: stream.look_ahead,
            latent,
            speaker: hp.multi_speaker().then(|| Array::noise(&[1, hp.gin_channels, 1], 18)),
            decoded: RefCell::default(),
            model,
        }
    }

    fn hop(&self) -> usize {
        self.model.hparams.hop_length()
    }

    fn decode(&self, latent: &Array) -> Array {
        let mask = Array::full(&[1, 1, latent.dims[2]], 1.0);
        self.whole.run(decoder_feeds(latent, &mask, self.speaker.as_ref())).remove(0)
    }

    fn whole(&self, frames: usize) -> Array {
        let decode = || self.decode(&self.latent.slice(2, 0..frames));
        self.decoded.borrow_mut().entry(frames).or_insert_with(decode).clone()
    }

    fn start(&self) -> Stream<'_> {
        let zeros = |state: &StateInfo| Array::full(&state.shape, 0.0);
        Stream { decoders: self, states: self.states.iter().map(zeros).collect() }
    }

    /// Decodes the latent in chunks of the given lengths, one call for each.
    fn streamed(&self, latent: &Array, chunks: &[usize]) -> Array {
        let mut stream = self.start();
        let (mut samples, mut from) = (Vec::new(), 0);
        for &chunk in chunks {
            let to = from + chunk;
            let part = stream.push(&latent.slice(2, from..to), to == latent.dims[2]);
            samples.extend_from_slice(part.floats());
            from = to;
        }
        assert_eq!(from, latent.dims[2]);
        Array::f32(&[1, 1, samples.len()], samples)
    }

    /// Lengths of chunks that the contract allows for a number of frames.
    fn split(&self, frames: usize, largest: usize, random: &mut Random) -> Vec<usize> {
        if frames < self.look_ahead {
            return vec![frames];
        }
        let mut chunks = vec![(self.look_ahead + random.within(0..largest)).min(frames)];
        while chunks.iter().sum::<usize>() < frames {
            let rest = frames - chunks.iter().sum::<usize>();
            chunks.push(random.within(1..largest + 1).min(rest));
        }
        chunks
    }
}

struct Stream<'a> {
    decoders: &'a Decoders,
    states: Vec<Array>,
}

impl Stream<'_> {
    fn push(&mut self, latent: &Array, last: bool) -> Array {
        let last = Array::i64(&[1], &[i64::from(last)]);
        let mut feeds = vec![("z", latent), ("last", &last)];
        feeds.extend(self.decoders.speaker.as_ref().map(|g| ("g", g)));
        let inputs = self.decoders.states.iter().map(|state| state.input.as_str());
        feeds.extend(inputs.zip(&self.states));
        let mut outputs = self.decoders.stream.run(feeds);
        self.states = outputs.split_off(1);
        outputs.remove(0)
    }
}

/// Random utterances in random chunks.
fn check(fixture: &Fixture, cases: u32) {
    let decoders = Decoders::new(fixture);
    let worst = Cell::new(0.0f32);
    let strategy = (1..LONGEST + 1, 1usize..40, any::<u32>());
    let mut runner = support::runner(cases);
    runner
        .run(&strategy, |(frames, largest, seed)| {
            let chunks = decoders.split(frames, largest, &mut Random(u64::from(seed)));
            let latent = decoders.latent.slice(2, 0..frames);
            let streamed = decoders.streamed(&latent, &chunks);
            prop_assert_eq!(&streamed.dims, &vec![1, 1, frames * decoders.hop()], "{:?}", chunks);
            let found = difference(&streamed, &decoders.whole(frames));
            prop_assert!(found <= LIMIT, "{:?}: differs by {}", chunks, found);
            worst.set(found.max(worst.get()));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{}: {error}", decoders.name));
    println!("{}: {cases} splits differ by at most {:e}", decoders.name, worst.get());
}

#[test]
fn any_split_gives_the_whole() {
    for fixture in support::distinct() {
        check(&fixture, 60);
    }
}

/// Many runs of the network with the shortest frames.
#[test]
fn thousands_of_splits_give_the_whole() {
    check(&Fixture::committed("textual"), 1500);
}

#[test]
fn every_short_utterance_streams() {
    for fixture in support::distinct() {
        let decoders = Decoders::new(&fixture);
        for frames in 1..decoders.look_ahead + 3 {
            let latent = decoders.latent.slice(2, 0..frames);
            let mut splits = vec![vec![frames]];
            if let Some(rest @ 1..) = frames.checked_sub(decoders.look_ahead) {
                splits.push(vec![decoders.look_ahead, rest]);
                splits.push([vec![decoders.look_ahead], vec![1; rest]].concat());
            }
            for chunks in splits {
                let streamed = decoders.streamed(&latent, &chunks);
                let found = difference(&streamed, &decoders.whole(frames));
                assert!(found <= LIMIT, "{} {chunks:?}: differs by {found}", decoders.name);
            }
        }
    }
}

/// A real voice.
#[test]
fn a_real_voice_streams_as_the_whole() {
    let Some(joe) = support::joe() else { return };
    for (text, largest) in [("short", 16), ("medium", 32)] {
        let case = joe.case(text).unwrap();
        let latent = case.get("z_p").clone();
        let frames = latent.dims[2];
        let decoders = Decoders::of(&joe.name, joe.model(), latent);
        let chunks = decoders.split(frames, largest, &mut Random(1));
        let found = difference(&decoders.streamed(&decoders.latent, &chunks), &decoders.whole(frames));
        assert!(found <= LIMIT, "{text}: differs by {found}");
        println!("{text}: {} chunks differ by {found:e}", chunks.len());
    }
}

/// A page of 3,079 ids.
#[test]
#[ignore = "takes minutes; run with --ignored"]
fn a_page_streams_as_the_whole() {
    let Some(joe) = support::joe() else { return };
    let model = joe.model();
    let ids = joe.ids("para");
    let encoder = Net::new(model.emit_encoder(15, NoiseSource::Internal { seed: Some(1) }).unwrap());
    let feeds = [
        ("input", Array::i64(&[1, ids.len()], &ids)),
        ("input_lengths", Array::i64(&[1], &[ids.len() as i64])),
        ("scales", Array::f32(&[3], vec![0.667, 1.0, 0.8])),
    ];
    let latent = encoder.run(by_name(&feeds)).remove(0);
    let frames = latent.dims[2];
    let decoders = Decoders::of(&joe.name, model, latent);
    let chunks = decoders.split(frames, 300, &mut Random(1));
    let found = difference(&decoders.streamed(&decoders.latent, &chunks), &decoders.whole(frames));
    assert!(found <= LIMIT, "{} ids: differs by {found}", ids.len());
    println!("{} ids, {frames} frames: {} chunks differ by {found:e}", ids.len(), chunks.len());
}

/// Samples are returned as soon as they are known, and the states do not grow.
#[test]
fn each_call_gives_what_is_known() {
    for fixture in support::committed() {
        let decoders = Decoders::new(&fixture);
        let lag = decoders.model.emit_stream_decoder(15).unwrap().lag;
        let mut stream = decoders.start();
        let sizes = |stream: &Stream<'_>| -> Vec<Vec<usize>> {
            stream.states.iter().map(|state| state.dims.clone()).collect()
        };
        let first = decoders.look_ahead;
        let given = stream.push(&decoders.latent.slice(2, 0..first), false);
        assert_eq!(given.dims[2], first * decoders.hop() - lag, "{}", decoders.name);
        assert!((1..=decoders.hop()).contains(&given.dims[2]), "{}", decoders.name);
        let steady = sizes(&stream);
        for (frames, from) in [(1, first), (7, first + 1), (20, first + 8)] {
            let given = stream.push(&decoders.latent.slice(2, from..from + frames), false);
            assert_eq!(given.dims[2], frames * decoders.hop(), "{}", decoders.name);
            assert_eq!(sizes(&stream), steady, "{}", decoders.name);
        }
    }
}

/// A frame of NaN spoils only the samples that depend on it: no state keeps more than necessary, and no
/// placeholder for "no frame" reaches the output.
#[test]
fn a_frame_reaches_as_far_as_is_stated() {
    for fixture in support::distinct() {
        let decoders = Decoders::new(&fixture);
        let reach = decoders.model.receptive_field();
        let at = LONGEST / 2;
        let chunks = decoders.split(LONGEST, 9, &mut Random(3));
        let spoilt = |value: &dyn Fn(f32) -> f32| {
            let mut values = decoders.latent.floats().to_vec();
            for row in values.chunks_exact_mut(LONGEST) {
                row[at] = value(row[at]);
            }
            Array::f32(&decoders.latent.dims, values)
        };
        let (filler, other) = (spoilt(&|_| f32::NAN), spoilt(&|v| v + 3.0));
        let hop = decoders.hop();
        let before = (at - reach) * hop;
        let after = (at + reach + 1) * hop;
        let near = |audio: &Array, other: &Array, what: &str| {
            for range in [0..before, after..LONGEST * hop] {
                let found = difference(&audio.slice(2, range.clone()), &other.slice(2, range.clone()));
                assert!(found <= LIMIT, "{}, {what}, samples {range:?}: differs by {found}", decoders.name);
            }
        };
        let whole = decoders.whole(LONGEST);
        near(&decoders.decode(&filler), &whole, "NaN, whole");
        near(&decoders.streamed(&filler, &chunks), &whole, "NaN, streamed");
        let changed = decoders.streamed(&other, &chunks);
        near(&changed, &whole, "another value, streamed");
        // The reach is stated in frames: one frame less on either side would be too little.
        let spread = decoders.decode(&filler);
        for range in [before..before + hop, after - hop..after] {
            let reached = spread.floats()[range.clone()].iter().any(|sample| sample.is_nan());
            assert!(reached, "{}: nothing in samples {range:?} depends on the frame", decoders.name);
        }
    }
}

/// Multiply-adds of a run, counted from each node's output and the weights it multiplies by.
struct Work {
    net: Net,
    /// Multiply-adds per element of each counted output; these outputs follow the graph's own.
    each: Vec<u64>,
    own: usize,
    /// Set for outputs that depend only on the speaker, which are computed once per call, whatever its
    /// length.
    speaker: Vec<bool>,
}

impl Work {
    fn new(mut graph: Graph) -> Self {
        let own = graph.outputs.len();
        let (mut each, mut speaker) = (Vec::new(), Vec::new());
        for node in &graph.nodes {
            let weight = node.inputs.get(1).copied().flatten().and_then(|id| graph.constant(id));
            let elements = match (node.op.as_str(), weight) {
                ("Conv", Some(weight)) => weight.dims[1..].iter().product::<usize>(),
                ("MatMul", Some(weight)) => weight.dims[weight.dims.len() - 2],
                ("Conv" | "ConvTranspose" | "MatMul" | "Gemm", _) => panic!("{} is not counted", node.name),
                _ => continue,
            };
            each.push(elements as u64);
            speaker.push(node.name.contains("/cond"));
            let output = node.outputs[0].unwrap();
            assert!(!graph.outputs.contains(&output), "{}: an output of the graph", node.name);
            graph.outputs.push(output);
        }
        Self { net: Net::new(graph), each, own, speaker }
    }

    /// Counts the outputs of a run: those that depend on time, and those that depend on the speaker.
    fn count(&self, outputs: &[Array]) -> (u64, u64) {
        let (mut time, mut once) = (0, 0);
        for ((output, each), &speaker) in outputs[self.own..].iter().zip(&self.each).zip(&self.speaker) {
            let work = output.dims.iter().product::<usize>() as u64 * each;
            *(if speaker { &mut once } else { &mut time }) += work;
        }
        (time, once)
    }
}

/// No frame is computed twice: whatever the split, the multiply-adds are those of the utterance in one call.
/// The speaker's contribution is computed once per call. The whole decoder does the same work in slightly
/// other forms: it repeats masks by convolution, while the stateful decoder multiplies by zero taps of its
/// up-sampling. The test prints the ratio.
#[test]
fn no_frame_is_computed_twice() {
    for fixture in support::committed() {
        let decoders = Decoders::new(&fixture);
        let stream = decoders.model.emit_stream_decoder(15).unwrap();
        let whole = Work::new(decoders.model.emit_decoder(15).unwrap());
        let work = Work::new(stream.graph);
        let mask = Array::full(&[1, 1, LONGEST], 1.0);
        let outputs = whole.net.run(decoder_feeds(&decoders.latent, &mask, decoders.speaker.as_ref()));
        let (in_whole, _) = whole.count(&outputs);

        let own = work.own;
        let count = |outputs: &[Array]| work.count(outputs);
        let mut totals = Vec::new();
        let random = &mut Random(9);
        let mut splits =
            vec![vec![LONGEST], [vec![decoders.look_ahead], vec![1; LONGEST - decoders.look_ahead]].concat()];
        splits.extend((0..4).map(|_| decoders.split(LONGEST, 30, random)));
        for chunks in &splits {
            let (mut time, mut once, mut from) = (0, Vec::new(), 0);
            let mut states: Vec<Array> = decoders.states.iter().map(|s| Array::full(&s.shape, 0.0)).collect();
            for &chunk in chunks {
                let to = from + chunk;
                let part = decoders.latent.slice(2, from..to);
                let last = Array::i64(&[1], &[i64::from(to == LONGEST)]);
                let mut feeds = vec![("z", &part), ("last", &last)];
                feeds.extend(decoders.speaker.as_ref().map(|g| ("g", g)));
                feeds.extend(decoders.states.iter().map(|state| state.input.as_str()).zip(&states));
                let outputs = work.net.run(feeds);
                let (in_time, in_speaker) = count(&outputs);
                time += in_time;
                once.push(in_speaker);
                states = outputs[1..own].to_vec();
                from = to;
            }
            assert!(once.windows(2).all(|pair| pair[0] == pair[1]), "{}: {once:?}", decoders.name);
            totals.push(time);
        }
        assert!(totals.iter().all(|&total| total == totals[0]), "{}: {splits:?} {totals:?}", decoders.name);
        let extra = totals[0] as f64 / in_whole as f64;
        println!("{}: {extra:.4} times the multiply-adds of the whole decoder", decoders.name);
        assert!((0.9..1.25).contains(&extra), "{}: {extra}", decoders.name);
    }
}
