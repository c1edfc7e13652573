//! `decoder.stream.onnx`: a decoder that carries its state, so no frame is computed twice.
//!
//! # The file's contract
//! Batch 1. Inputs: `z` f32 `[1, inter_channels, frames]`; `g` f32 `[1, gin_channels, 1]` for voices with
//! several speakers; `last` int64 `[1]`, 1 with the utterance's last frames and 0 before; then the states,
//! f32 with four axes. Outputs: `output` f32 `[1, 1, samples]`, the samples known so far; then the next
//! states. Metadata: `look_ahead`, the minimum number of frames in the first call, unless it has all frames
//! and `last` 1; and `states`, JSON `[{"input": "X.state", "output": "X.next", "shape": [1, 192, 1, 2]},
//! ...]`: an utterance starts with zeros of these shapes. A length may be 0.

use std::path::PathBuf;
use std::sync::Arc;

use vitstream_contract::StreamState;

use crate::backend::{DecodeBackend, DecodeSession};
use crate::error::{Error, Result};
use crate::graph_file::{GraphFile, fixed};
use crate::runtime::{self, GraphSource, Output, Runner, RuntimeOptions, Tensor};

pub(crate) struct StatefulDecoder {
    path: PathBuf,
    runner: Box<dyn Runner>,
    channels: usize,
    has_g: bool,
    hop: usize,
    look_ahead: usize,
    states: Vec<StreamState>,
    /// `output`, followed by the next states.
    outputs: Vec<String>,
}

impl StatefulDecoder {
    pub(crate) fn open(file: GraphFile, options: &RuntimeOptions) -> Result<Self> {
        file.expect(&["z", "last"], &["output"])?;
        let wanted =
            |key: &str| file.error(format!("metadata `{key}` is missing: not a stream decoder of vitstream"));
        let number = |key: &str| file.number::<usize>(key)?.ok_or_else(|| wanted(key));
        let states: Vec<StreamState> =
            serde_json::from_str(file.metadata("states").ok_or_else(|| wanted("states"))?)
                .map_err(|e| file.error(format!("metadata `states`: {e}")))?;
        for state in &states {
            file.expect(&[&state.input], &[&state.output])?;
        }
        StreamState::check(&states).map_err(|problem| file.error(problem))?;
        let channels = file
            .input("z")
            .and_then(|info| fixed(info, 1))
            .filter(|&channels| channels > 0)
            .ok_or_else(|| file.error("input `z`: expected a fixed number of channels on axis 1"))?;
        let hop = number("hop_length")?;
        if !(1..=1 << 20).contains(&hop) {
            return Err(file.error(format!("metadata `hop_length`: {hop} is not valid")));
        }
        let outputs = ["output"]
            .into_iter()
            .chain(states.iter().map(|s| s.output.as_str()))
            .map(str::to_owned)
            .collect();
        Ok(Self {
            runner: runtime::load(GraphSource::File(&file.path), options)?,
            channels,
            has_g: file.input("g").is_some(),
            hop,
            // The file states the minimum number of frames in the first call; the look-ahead is one less.
            look_ahead: number("look_ahead")?.saturating_sub(1),
            states,
            outputs,
            path: file.path,
        })
    }
}

impl DecodeBackend for StatefulDecoder {
    fn hop_length(&self) -> usize {
        self.hop
    }

    fn look_ahead(&self) -> usize {
        self.look_ahead
    }

    fn start(self: Arc<Self>, g: Option<Vec<f32>>) -> Result<Box<dyn DecodeSession>> {
        if g.is_some() != self.has_g {
            return Err(Error::model(
                &self.path,
                "the decoder and the encoder disagree on whether the voice has speakers",
            ));
        }
        let zeros = |state: &StreamState| Output {
            shape: state.shape.clone(),
            data: vec![0.0; state.shape.iter().product()],
        };
        let states = self.states.iter().map(zeros).collect();
        Ok(Box::new(Session { decoder: self, g, states, begun: false }))
    }
}

struct Session {
    decoder: Arc<StatefulDecoder>,
    g: Option<Vec<f32>>,
    states: Vec<Output>,
    begun: bool,
}

impl DecodeSession for Session {
    fn push(&mut self, frames: &[f32], last: bool) -> Result<Vec<f32>> {
        let decoder = &*self.decoder;
        let count = frames.len() / decoder.channels;
        if count == 0 || count * decoder.channels != frames.len() {
            return Err(Error::request(format!(
                "{} values are not a whole number of frames of {} channels",
                frames.len(),
                decoder.channels
            )));
        }
        // With no more frames than the look-ahead, no sample is known yet, and runtimes refuse convolutions
        // without output.
        if !self.begun && !last && count <= decoder.look_ahead {
            return Err(Error::request(format!(
                "the first push takes at least {} frames or the whole utterance, found {count}",
                decoder.look_ahead + 1
            )));
        }
        let mut inputs = Vec::with_capacity(3 + self.states.len());
        inputs.push(("z", Tensor::f32(&[1, decoder.channels, count], frames)));
        if let Some(g) = &self.g {
            inputs.push(("g", Tensor::f32(&[1, g.len(), 1], g.as_slice())));
        }
        inputs.push(("last", Tensor::i64(&[1], vec![i64::from(last)])));
        for (state, value) in decoder.states.iter().zip(&self.states) {
            inputs.push((&state.input, Tensor::f32(&value.shape, value.data.as_slice())));
        }
        let names: Vec<&str> = decoder.outputs.iter().map(String::as_str).collect();
        let mut outputs = decoder.runner.run(&inputs, &names)?.into_iter();
        drop(inputs);
        let samples = outputs.next().map(|output| output.data).unwrap_or_default();
        Error::unless_numbers(&decoder.path, &samples)?;
        self.states = outputs.collect();
        self.begun = true;
        Ok(samples)
    }
}
