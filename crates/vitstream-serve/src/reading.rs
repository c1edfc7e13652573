//! Speaks a text: the work of a stream, turn by turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use vitstream::{Chunking, SpeakOptions, SpeechStream};
use vitstream_text::markup::ssml;
use vitstream_text::phonemizer::Pool;
use vitstream_text::{Passage, Sentence, Sentences};

use crate::audio::Output;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::scheduler::{Stop, Turn, Work};
use crate::voices::OpenVoice;

/// Limit on the phoneme ids of an utterance, unless it cannot be divided. An encoder runs without
/// interruption, so others wait for all of it: 300 ids take 35 ms to 60 ms on a current core, and are 15 to
/// 20 seconds of speech, longer than nearly every sentence.
const MOST_IDS: usize = 300;
/// Minimum duration of the first chunk. A single listener needs less to avoid gaps, but here other streams
/// are computed in between, and the system has more threads to run than cores.
const FIRST_CHUNK: Duration = Duration::from_millis(40);

/// A piece of audio that is ready to be sent.
#[derive(Clone, Debug, Default)]
pub struct Audio {
    /// Bytes in the requested format. May be empty while an encoder waits for more samples.
    pub bytes: Bytes,
    /// Number of the voice's samples in it.
    pub samples: usize,
    /// The utterance that begins with its first sample, if any.
    pub utterance: Option<Box<Utterance>>,
}

/// An utterance, spoken from some sample on.
#[derive(Clone, Debug, PartialEq)]
pub struct Utterance {
    /// The sentence, or a part of it.
    pub text: String,
    /// Its duration.
    pub length: Duration,
    /// Its words with their start and end, relative to the utterance's first sample. Empty for voices that do
    /// not provide durations.
    pub words: Vec<(String, Duration, Duration)>,
}

/// A text to speak.
#[derive(Debug)]
pub(crate) enum Text {
    /// The whole text.
    Whole(String),
    /// The whole text, as SSML.
    Ssml(String),
    /// A text that arrives in pieces.
    Arriving(Receiver<Bit>),
}

/// A piece of a text that arrives.
#[derive(Debug)]
pub(crate) enum Bit {
    /// More text.
    Text(String),
    /// Complete text is to be spoken, even if nothing shows yet that it is complete.
    Flush,
}

/// A text being spoken.
pub(crate) struct Reading {
    voice: Arc<OpenVoice>,
    phonemizer: Pool,
    options: SpeakOptions,
    sentences: Sentences,
    /// The pieces still to come; `None` if there are no more.
    arriving: Option<Receiver<Bit>>,
    passages: VecDeque<Passage>,
    utterances: VecDeque<Sentence>,
    speaking: Option<Speaking>,
    /// Samples of silence that are due.
    silence: usize,
    output: Option<Output>,
    metrics: Arc<Metrics>,
}

struct Speaking {
    sentence: Sentence,
    stream: SpeechStream,
    begun: bool,
}

impl Reading {
    /// # Errors
    /// When the text is markup and cannot be read.
    pub(crate) fn new(
        voice: Arc<OpenVoice>,
        phonemizer: Pool,
        options: SpeakOptions,
        text: Text,
        output: Output,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let mut sentences = voice.frontend.stream();
        let mut passages = VecDeque::new();
        let mut arriving = None;
        match text {
            Text::Whole(text) => {
                // For a text that is available, waiting for the rest of a sentence costs nothing.
                sentences = sentences.whole_sentences();
                passages.extend(sentences.push(&text).iter().map(|text| Passage::from(&**text)));
                passages.extend(sentences.finish().iter().map(|text| Passage::from(&**text)));
            }
            Text::Ssml(text) => passages.extend(ssml(&text)?),
            Text::Arriving(receiver) => arriving = Some(receiver),
        }
        Ok(Self {
            voice,
            phonemizer,
            options,
            sentences,
            arriving,
            passages,
            utterances: VecDeque::new(),
            speaking: None,
            silence: 0,
            output: Some(output),
            metrics,
        })
    }

    fn sample_rate(&self) -> u32 {
        self.voice.voice.info().sample_rate
    }

    fn plays(&self, samples: usize) -> Duration {
        Duration::from_secs_f64(samples as f64 / f64::from(self.sample_rate()))
    }

    fn next(&mut self, stop: &Stop) -> Result<Turn<Audio>> {
        loop {
            if self.silence > 0 {
                let samples = self.silence.min(self.sample_rate() as usize);
                self.silence -= samples;
                return self.give(&vec![0.0; samples], None);
            }
            if let Some(speaking) = &mut self.speaking {
                let Some(chunk) = speaking.stream.next().transpose()? else {
                    self.speaking = None;
                    continue;
                };
                let begins = !std::mem::replace(&mut speaking.begun, true);
                let utterance =
                    begins.then(|| Box::new(speaking.utterance(self.voice.voice.info().sample_rate)));
                if chunk.last {
                    self.end_utterance();
                }
                return self.give(&chunk.samples, utterance);
            }
            if let Some(sentence) = self.utterances.pop_front() {
                self.begin_utterance(sentence, stop)?;
                continue;
            }
            if let Some(passage) = self.passages.pop_front() {
                let frontend = &self.voice.frontend;
                self.utterances.extend(frontend.speak_within(MOST_IDS, passage, &mut self.phonemizer)?);
                continue;
            }
            if self.arriving.is_some() {
                if !self.take_text() {
                    return Ok(Turn::Wait);
                }
                continue;
            }
            let Some(mut output) = self.output.take() else { return Ok(Turn::End) };
            let bytes = output.finish()?;
            if bytes.is_empty() {
                return Ok(Turn::End);
            }
            let item = Audio { bytes: bytes.into(), ..Audio::default() };
            return Ok(Turn::Item { item, plays: Duration::ZERO });
        }
    }

    /// Takes the text that has arrived; `false` if there is none.
    fn take_text(&mut self) -> bool {
        let Some(arriving) = &self.arriving else { return false };
        let texts = match arriving.try_recv() {
            Ok(Bit::Text(text)) => self.sentences.push(&text),
            Ok(Bit::Flush) => {
                // A word without a mark after it is requested as well.
                self.sentences.flush().into_iter().chain(self.sentences.finish()).collect()
            }
            Err(TryRecvError::Disconnected) => {
                self.arriving = None;
                self.sentences.finish().into_iter().collect()
            }
            Err(TryRecvError::Empty) => return false,
        };
        self.passages.extend(texts.iter().map(|text| Passage::from(&**text)));
        true
    }

    fn begin_utterance(&mut self, sentence: Sentence, stop: &Stop) -> Result<()> {
        if sentence.ids.is_empty() {
            self.pause(sentence.pause);
            return Ok(());
        }
        let mut options = self.options.clone();
        let least = (FIRST_CHUNK.as_secs_f64() / self.voice.voice.frame_seconds()).ceil() as usize;
        options.chunking = Chunking::ScheduledFrom(least.max(1));
        if sentence.rate != 1.0 {
            let scales = options.scales.get_or_insert(self.voice.voice.info().scales);
            scales.length /= sentence.rate;
        }
        let stream = self.voice.voice.stream(&sentence.ids, &options)?;
        stop.ends(stream.cancel_handle());
        self.speaking = Some(Speaking { sentence, stream, begun: false });
        Ok(())
    }

    fn end_utterance(&mut self) {
        if let Some(speaking) = self.speaking.take() {
            self.pause(speaking.sentence.pause);
        }
    }

    fn pause(&mut self, pause: Duration) {
        self.silence += (pause.as_secs_f64() * f64::from(self.sample_rate())).round() as usize;
    }

    fn give(&mut self, samples: &[f32], utterance: Option<Box<Utterance>>) -> Result<Turn<Audio>> {
        let Some(output) = &mut self.output else { return Ok(Turn::End) };
        let bytes = output.push(samples)?.into();
        let plays = self.plays(samples.len());
        Ok(Turn::Item { item: Audio { bytes, samples: samples.len(), utterance }, plays })
    }
}

impl Speaking {
    /// The utterance that begins; its encoder is done.
    fn utterance(&self, rate: u32) -> Utterance {
        let time = |samples: usize| Duration::from_secs_f64(samples as f64 / f64::from(rate));
        let words = match self.stream.durations() {
            None => Vec::new(),
            Some(durations) => {
                let mut starts = vec![0];
                for duration in durations {
                    starts.push(starts[starts.len() - 1] + duration);
                }
                let at = |index: usize| time(starts[index.min(durations.len())]);
                let words = self.sentence.words.iter();
                words.map(|word| (word.text.clone(), at(word.ids.start), at(word.ids.end))).collect()
            }
        };
        Utterance {
            text: self.sentence.text.clone(),
            length: time(self.stream.total_samples().unwrap_or_default()),
            words,
        }
    }
}

impl Work for Reading {
    type Item = Audio;

    fn turn(&mut self, stop: &Stop) -> Result<Turn<Audio>> {
        let started = Instant::now();
        let turn = self.next(stop);
        if let Ok(Turn::Item { plays, .. }) = &turn {
            self.metrics.computed(started.elapsed(), *plays);
        }
        turn
    }
}
