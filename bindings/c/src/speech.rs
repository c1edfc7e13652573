//! A text being spoken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use vitstream::{Cancel, Chunk, SpeakOptions, SpeechStream};
use vitstream_text::Sentence;

use crate::failure::Failure;
use crate::voice::Opened;

/// A unit of speech for the network.
pub(crate) struct Said {
    pub(crate) ids: Vec<i64>,
    /// Empty for given ids.
    pub(crate) phonemes: Vec<String>,
}

impl From<Sentence> for Said {
    fn from(sentence: Sentence) -> Self {
        Self { ids: sentence.ids, phonemes: sentence.phonemes }
    }
}

/// The utterances of a text, in order.
pub(crate) struct Speech {
    opened: Arc<Opened>,
    options: SpeakOptions,
    /// Sentences that have not been read yet.
    texts: VecDeque<String>,
    said: VecDeque<Said>,
    current: Option<SpeechStream>,
    cancel: Arc<Stop>,
    begun: usize,
    /// Set if a text without anything to speak is an error.
    needs_words: bool,
}

/// Stops speech from any thread.
#[derive(Default)]
pub(crate) struct Stop(Mutex<(bool, Option<Cancel>)>);

impl Stop {
    pub(crate) fn stop(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        if let Some(cancel) = &state.1 {
            cancel.cancel();
        }
    }

    /// Registers the current computation. Returns true if speech was stopped before.
    fn watch(&self, cancel: Option<Cancel>) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = cancel;
        state.0
    }
}

impl Speech {
    pub(crate) fn of_text(opened: Arc<Opened>, text: &str, options: SpeakOptions) -> Result<Self, Failure> {
        let texts = opened.read(|reader| {
            // Without a phonemizer every sentence fails like the first.
            reader.prepare()?;
            let mut stream = reader.begin().whole_sentences();
            Ok(stream.push(text).into_iter().chain(stream.finish()).collect())
        })?;
        let mut speech = Self::of(opened, VecDeque::new(), options)?;
        speech.texts = texts;
        Ok(speech)
    }

    pub(crate) fn of(
        opened: Arc<Opened>,
        said: VecDeque<Said>,
        options: SpeakOptions,
    ) -> Result<Self, Failure> {
        // Every voice has this id, and nothing is computed: problems with the options are reported before the
        // first sentence.
        opened.voice.stream(&[0], &options)?;
        let (texts, cancel) = (VecDeque::new(), Arc::default());
        Ok(Self { opened, options, texts, said, current: None, cancel, begun: 0, needs_words: true })
    }

    /// Accepts a text without anything to speak as silence.
    pub(crate) fn may_be_silent(&mut self) {
        self.needs_words = false;
    }

    pub(crate) fn stopper(&self) -> Arc<Stop> {
        self.cancel.clone()
    }

    /// Index of the current utterance, from 0.
    pub(crate) fn sentence(&self) -> usize {
        self.begun.saturating_sub(1)
    }

    /// Returns true if there is another utterance; reads texts until one is found.
    pub(crate) fn has_more(&mut self) -> Result<bool, Failure> {
        while self.said.is_empty()
            && let Some(text) = self.texts.pop_front()
        {
            let sentences = self.opened.read(|reader| reader.sentence(&text))?;
            self.said = sentences.into_iter().map(Said::from).collect();
        }
        Ok(!self.said.is_empty())
    }

    /// The next utterance; `None` after the last.
    pub(crate) fn begin(&mut self) -> Result<Option<(Said, SpeechStream)>, Failure> {
        self.has_more()?;
        let Some(said) = self.said.pop_front() else {
            if self.begun == 0 && self.needs_words {
                return Err(Failure::request(
                    "there is nothing to say: expected a text with letters or digits",
                ));
            }
            return Ok(None);
        };
        let stream = self.opened.voice.stream(&said.ids, &self.options)?;
        if self.cancel.watch(Some(stream.cancel_handle())) {
            stream.cancel_handle().cancel();
        }
        self.begun += 1;
        Ok(Some((said, stream)))
    }

    /// The next chunk; `None` after the last. No chunks follow an error.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk>, Failure> {
        let next = self.advance();
        if next.is_err() {
            self.current = None;
            self.texts.clear();
            self.said.clear();
            self.begun = self.begun.max(1);
        }
        next
    }

    fn advance(&mut self) -> Result<Option<Chunk>, Failure> {
        loop {
            if let Some(stream) = &mut self.current
                && let Some(chunk) = stream.next()
            {
                return Ok(Some(chunk?));
            }
            self.current = match self.begin()? {
                Some((_, stream)) => Some(stream),
                None => return Ok(None),
            };
        }
    }
}
