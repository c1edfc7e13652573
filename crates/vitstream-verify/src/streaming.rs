//! Feeds a pair's decoders chunk by chunk, as docs/streaming.md prescribes for clients.

use std::ops::Range;

use vitstream_contract::StreamState;

use super::session::{Array, Feed, Session, Sessions};
use super::voice::DecoderGraph;
use crate::Error;
use crate::onnx_file::OnnxFile;

/// Limit on the look-ahead of a decoder: with more it does not stream.
const MOST_LOOK_AHEAD: usize = 1000;

/// Frames of successive chunks, repeated from the start when exhausted.
pub(super) type Schedule = &'static [usize];

/// A decoder that is fed chunk by chunk.
pub(super) trait Chunked {
    /// The schedules to test it with.
    fn schedules(&self) -> &'static [Schedule];

    /// Streams all of `z: f32[1, inter, time]` with the speaker's `g`; `None` if the schedule would take too
    /// long.
    fn stream(
        &self,
        z: &Array<f32>,
        g: Option<&Array<f32>>,
        schedule: Schedule,
    ) -> Result<Option<Vec<f32>>, Error>;
}

/// Limit on the frames that are computed for one utterance by a schedule.
const MOST_FRAMES: usize = 2500;

/// The chunks of an utterance. The first one is `more` frames longer than the schedule says.
fn chunks(schedule: Schedule, more: usize, frames: usize) -> Vec<Range<usize>> {
    let mut chunks = Vec::new();
    let mut start = 0;
    for (index, &size) in schedule.iter().cycle().enumerate() {
        if start >= frames {
            break;
        }
        let size = if index == 0 { size.saturating_add(more) } else { size };
        let end = frames.min(start.saturating_add(size.max(1)));
        chunks.push(start..end);
        start = end;
    }
    chunks
}

/// Frames `range` of `z: f32[1, inter, time]`.
fn slice(z: &Array<f32>, range: Range<usize>) -> Array<f32> {
    let (channels, frames) = (z.dims[1], z.dims[2].max(1));
    let data: Vec<f32> =
        z.data.chunks_exact(frames).flat_map(|channel| &channel[range.clone()]).copied().collect();
    Array::new(&[1, channels, range.len()], data)
}

/// Only the first `count` frames.
pub(super) fn first_frames(z: &Array<f32>, count: usize) -> Array<f32> {
    slice(z, 0..count.min(z.dims[2]))
}

/// `decoder.onnx` over windows.
pub(super) struct Windowed<'a> {
    pub(super) decoder: &'a DecoderGraph,
    /// Frames by which a window extends on each side.
    pub(super) overlap: usize,
    /// Samples per frame.
    pub(super) hop: usize,
}

impl Chunked for Windowed<'_> {
    /// Without single frames, which would take a hundred times as long as the whole.
    fn schedules(&self) -> &'static [Schedule] {
        &[&[16], &[3, 50, 1, 28], &[100]]
    }

    fn stream(
        &self,
        z: &Array<f32>,
        g: Option<&Array<f32>>,
        schedule: Schedule,
    ) -> Result<Option<Vec<f32>>, Error> {
        let frames = z.dims[2];
        let windows: Vec<(Range<usize>, Range<usize>)> = chunks(schedule, 0, frames)
            .into_iter()
            .map(|chunk| {
                let window = chunk.start.saturating_sub(self.overlap)..frames.min(chunk.end + self.overlap);
                (chunk, window)
            })
            .collect();
        if frames > 1 && windows.iter().map(|(_, window)| window.len()).sum::<usize>() > MOST_FRAMES {
            return Ok(None);
        }
        let mut samples = Vec::new();
        for (chunk, window) in windows {
            let audio = self.decoder.audio(&slice(z, window.clone()), None, g)?.data;
            let (from, to) = ((chunk.start - window.start) * self.hop, (chunk.end - window.start) * self.hop);
            let part = audio.get(from..to).ok_or_else(|| Error::Run {
                path: self.decoder.file.path.clone(),
                problem: format!(
                    "returned {} samples for {} frames of {}",
                    audio.len(),
                    window.len(),
                    self.hop
                ),
            })?;
            samples.extend_from_slice(part);
        }
        Ok(Some(samples))
    }
}

/// `decoder.stream.onnx`
pub(super) struct Stateful {
    session: Session,
    states: Vec<StreamState>,
    /// Minimum number of frames in the first call.
    look_ahead: usize,
}

impl Stateful {
    pub(super) fn open(sessions: &Sessions, file: &OnnxFile) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Run { path: file.path.clone(), problem };
        let metadata = |key: &str| {
            file.graph.metadata.get(key).ok_or_else(|| {
                wrong(format!("metadata `{key}` is missing: not a stream decoder of vitstream"))
            })
        };
        let states: Vec<StreamState> = serde_json::from_str(metadata("states")?)
            .map_err(|error| wrong(format!("metadata `states`: {error}")))?;
        let look_ahead = metadata("look_ahead")?;
        let look_ahead =
            look_ahead.parse().ok().filter(|frames| (1..=MOST_LOOK_AHEAD).contains(frames)).ok_or_else(
                || {
                    wrong(format!(
                        "metadata `look_ahead`: expected 1 to {MOST_LOOK_AHEAD} frames, found {look_ahead:?}"
                    ))
                },
            )?;
        for StreamState { input, output, .. } in &states {
            if file.input(input).is_none() || file.output(output).is_none() {
                return Err(wrong(format!(
                    "metadata `states`: expected an input `{input}` and an output `{output}`, found none"
                )));
            }
        }
        StreamState::check(&states).map_err(wrong)?;
        if file.output("output").is_none() {
            return Err(wrong("expected an output `output`, found none".to_owned()));
        }
        Ok(Self { session: sessions.load(file)?, states, look_ahead })
    }
}

impl Chunked for Stateful {
    /// Single frames, the usual size, sizes that vary, and long chunks.
    fn schedules(&self) -> &'static [Schedule] {
        &[&[1], &[16], &[3, 50, 1, 28], &[100]]
    }

    fn stream(
        &self,
        z: &Array<f32>,
        g: Option<&Array<f32>>,
        schedule: Schedule,
    ) -> Result<Option<Vec<f32>>, Error> {
        /// Fixed cost of a call, in frames.
        const CALL: usize = 8;
        let frames = z.dims[2];
        let chunks = chunks(schedule, self.look_ahead.saturating_sub(1), frames);
        if frames > 1 && frames + CALL * chunks.len() > MOST_FRAMES {
            return Ok(None);
        }
        let mut states: Vec<Array<f32>> =
            self.states.iter().map(|state| Array::full(&state.shape, 0.0)).collect();
        let outputs: Vec<&str> =
            ["output"].into_iter().chain(self.states.iter().map(|state| state.output.as_str())).collect();
        let mut samples = Vec::new();
        for chunk in chunks {
            let last = Array::new(&[1], [i64::from(chunk.end == frames)]);
            let z = slice(z, chunk);
            let mut feeds = vec![("z", Feed::F32(&z)), ("last", Feed::I64(&last))];
            feeds.extend(g.map(|g| ("g", Feed::F32(g))));
            feeds.extend(self.states.iter().zip(&states).map(|(s, v)| (s.input.as_str(), Feed::F32(v))));
            let mut values = self.session.run(&feeds, &outputs)?.into_iter();
            samples.extend(values.next().into_iter().flat_map(|output| output.data));
            states = values.collect();
        }
        Ok(Some(samples))
    }
}

/// `16` or `3, 50, 1, 28, ...`
pub(super) fn describe(schedule: Schedule) -> String {
    match schedule {
        [1] => "chunks of 1 frame".to_owned(),
        [size] => format!("chunks of {size} frames"),
        sizes => {
            let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            format!("chunks of {} frames", sizes.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_utterance() {
        assert_eq!(chunks(&[3, 1], 0, 9), [0..3, 3..4, 4..7, 7..8, 8..9]);
        assert_eq!(chunks(&[1], 42, 44), [0..43, 43..44]);
        assert_eq!(chunks(&[16], 42, 10).len(), 1);
        assert_eq!(chunks(&[16], 0, 0), []);
    }

    #[test]
    fn frames_are_cut_out_of_all_channels() {
        let z = Array::new(&[1, 2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(slice(&z, 1..3), Array::new(&[1, 2, 2], [2.0, 3.0, 5.0, 6.0]));
        assert_eq!(first_frames(&z, 1), Array::new(&[1, 2, 1], [1.0, 4.0]));
    }
}
