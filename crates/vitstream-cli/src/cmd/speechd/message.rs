//! Sends a message to the server: its sentences, chunk by chunk, and the marks between them.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::Result;
use vitstream::{Scales, SpeakOptions};
use vitstream_text::{Error as TextError, Mark, Sentence};

use super::catalogue::{Catalogue, Loaded};
use super::control::{Control, Wish};
use super::protocol::Kind;
use super::settings::Settings;
use super::wire::{BLOCK, Event, Wire};
use crate::cmd::terminal::describe;
use crate::cmd::text::Reader;

/// Prefix of marks that the server inserts between sentences; after a pause, it continues from the last one.
const OF_SERVER: &str = "__spd_";

/// Length scales that voices support.
const LENGTHS: std::ops::RangeInclusive<f32> = 0.05..=20.0;

/// Silence is sent in portions, between which a stop is possible.
static SILENCE: [f32; BLOCK] = [0.0; BLOCK];

/// The content to be spoken.
pub(super) struct Message {
    kind: Kind,
    text: String,
    settings: Settings,
}

impl Message {
    pub(super) fn new(kind: Kind, text: String, settings: Settings) -> Self {
        Self { kind, text, settings }
    }

    fn ssml(&self) -> Cow<'_, str> {
        let text = &*self.text;
        let is_one = text.chars().nth(1).is_none();
        match self.kind {
            Kind::Text if self.settings.is_spelling => {
                format!("<say-as interpret-as=\"characters\">{text}</say-as>").into()
            }
            Kind::Text => text.into(),
            Kind::Char => escaped(text).into(),
            // `shift_a` is two keys; a single one may be this character.
            Kind::Key | Kind::SoundIcon if is_one => escaped(text).into(),
            Kind::Key | Kind::SoundIcon => escaped(&text.replace(['_', '-'], " ")).into(),
        }
    }
}

/// Speaks messages.
pub(super) struct Voices {
    pub(super) catalogue: Catalogue,
    pub(super) wire: Wire,
    pub(super) control: Arc<Control>,
    pub(super) seed: Option<u64>,
}

impl Voices {
    /// Speaks a message until its end or until it is stopped, and reports which. An error means that the
    /// server has gone.
    pub(super) fn say(&mut self, message: &Message) -> Result<()> {
        let mut way = Way { wire: &self.wire, control: &self.control, has_begun: false };
        let entry = self.catalogue.choose(&message.settings);
        let options = SpeakOptions::new().speaker(entry.speaker()).seed(self.seed);
        let index = entry.loaded;
        let loaded = &mut self.catalogue.loaded[index];
        let ending = match read(&mut loaded.reader, &message.ssml()) {
            Ok(sentences) => way.sentences(loaded, &sentences, &options, &message.settings)?,
            Err(error) => {
                tracing::error!("{}", describe(&error));
                Event::Stop
            }
        };
        way.begin()?;
        // The next message may follow immediately.
        self.control.end();
        Ok(self.wire.event(ending)?)
    }
}

/// Users of a screen reader depend on it: unknown markup is ignored, and the text is read.
fn read(reader: &mut Reader, text: &str) -> Result<Vec<Sentence>> {
    reader.whole(text).or_else(|error| match error.downcast_ref::<TextError>() {
        Some(TextError::Markup(_) | TextError::Unsupported { .. }) => {
            tracing::warn!("the text is read without its markup: {}", describe(&error));
            reader.whole(&escaped(&without_markup(text)))
        }
        _ => Err(error),
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// The text between tags.
fn without_markup(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once('<') {
        plain.push_str(before);
        let Some((_, after)) = tag.split_once('>') else {
            // It does not open a tag.
            plain.push('<');
            rest = tag;
            break;
        };
        // Words must not join where a tag was.
        plain.push(' ');
        rest = after;
    }
    plain.push_str(rest);
    for (reference, character) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")]
    {
        plain = plain.replace(reference, character);
    }
    plain
}

/// The state of one message.
struct Way<'a> {
    wire: &'a Wire,
    control: &'a Control,
    has_begun: bool,
}

impl Way<'_> {
    fn sentences(
        &mut self,
        loaded: &Loaded,
        sentences: &[Sentence],
        options: &SpeakOptions,
        settings: &Settings,
    ) -> Result<Event> {
        for sentence in sentences {
            if let Some(event) = self.sentence(loaded, sentence, options, settings)? {
                return Ok(event);
            }
        }
        Ok(Event::End)
    }

    /// Speaks a sentence; `None` at its end, else the event that ended it earlier.
    fn sentence(
        &mut self,
        loaded: &Loaded,
        sentence: &Sentence,
        options: &SpeakOptions,
        settings: &Settings,
    ) -> Result<Option<Event>> {
        let Loaded { voice, .. } = loaded;
        let info = voice.info();
        let rate = info.sample_rate;
        let length = info.scales.length / (sentence.rate * settings.speed());
        let length = length.clamp(*LENGTHS.start(), *LENGTHS.end());
        let options = options.clone().scales(Scales { length, ..info.scales });
        let mut marks = None;
        let mut at = 0;
        if !sentence.ids.is_empty() {
            let mut stream = match voice.stream(&sentence.ids, &options) {
                Ok(stream) => stream,
                Err(error) => return Ok(self.failed(error)),
            };
            self.control.computing(stream.cancel_handle());
            while let Some(chunk) = stream.next() {
                let mut samples = match chunk {
                    Ok(chunk) => chunk.samples,
                    Err(error) => return Ok(self.failed(error)),
                };
                let marks = marks.get_or_insert_with(|| places(sentence, stream.durations()));
                samples.iter_mut().for_each(|sample| *sample *= settings.gain());
                let mut samples = &samples[..];
                while !samples.is_empty() {
                    if let Some(event) = self.marks(marks, at)? {
                        return Ok(Some(event));
                    }
                    let next = marks.front().map_or(usize::MAX, |(place, _)| place - at);
                    let (now, later) = samples.split_at(samples.len().min(next).min(BLOCK));
                    if let Some(event) = self.audio(now, rate)? {
                        return Ok(Some(event));
                    }
                    at += now.len();
                    samples = later;
                }
            }
        }
        let mut marks = marks.unwrap_or_else(|| places(sentence, None));
        if let Some(event) = self.marks(&mut marks, usize::MAX)? {
            return Ok(Some(event));
        }
        let mut silence = (sentence.pause.as_secs_f64() * f64::from(rate)).round() as usize;
        while silence > 0 {
            let portion = silence.min(BLOCK);
            if let Some(event) = self.audio(&SILENCE[..portion], rate)? {
                return Ok(Some(event));
            }
            silence -= portion;
        }
        Ok(None)
    }

    /// Handles a sentence that could not be spoken, or was stopped.
    fn failed(&self, error: vitstream::Error) -> Option<Event> {
        if self.is_stopped() {
            return Some(Event::Stop);
        }
        tracing::error!("{}", describe(&error.into()));
        None
    }

    fn is_stopped(&self) -> bool {
        self.control.wished() == Some(Wish::Stop)
    }

    fn begin(&mut self) -> Result<()> {
        if !self.has_begun {
            self.has_begun = true;
            self.wire.event(Event::Begin)?;
        }
        Ok(())
    }

    fn audio(&mut self, samples: &[f32], rate: u32) -> Result<Option<Event>> {
        if self.is_stopped() {
            return Ok(Some(Event::Stop));
        }
        self.begin()?;
        self.wire.audio(samples, rate)?;
        Ok(None)
    }

    /// Reports the marks up to a sample.
    fn marks(&mut self, marks: &mut VecDeque<(usize, &str)>, at: usize) -> Result<Option<Event>> {
        while let Some((_, name)) = marks.pop_front_if(|(place, _)| *place <= at) {
            if self.is_stopped() {
                return Ok(Some(Event::Stop));
            }
            self.begin()?;
            self.wire.mark(name)?;
            if name.starts_with(OF_SERVER) && self.control.wished() == Some(Wish::Pause) {
                return Ok(Some(Event::Pause));
            }
        }
        Ok(None)
    }
}

/// The sample before which each mark is reported. Without durations, marks within the sentence are reported
/// at its end, so that none is reported before the text that it follows.
fn places<'a>(sentence: &'a Sentence, durations: Option<&[usize]>) -> VecDeque<(usize, &'a str)> {
    // Marks are in order, so the durations are added up only once.
    let (mut ids, mut samples) = (0, 0);
    let mut place = |mark: &Mark| match (mark.word, sentence.words.get(mark.word), durations) {
        (0, ..) => 0,
        (_, Some(word), Some(durations)) => {
            let start = word.ids.start.clamp(ids, durations.len());
            samples += durations[ids..start].iter().sum::<usize>();
            ids = start;
            samples
        }
        _ => usize::MAX,
    };
    sentence.marks.iter().map(|mark| (place(mark), &*mark.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_message_is_a_text() {
        let ssml =
            |kind, text: &str| Message::new(kind, text.to_owned(), Settings::default()).ssml().into_owned();
        for (kind, text, expected) in [
            (Kind::Text, "<speak>a_b</speak>", "<speak>a_b</speak>"),
            (Kind::Char, "<", "&lt;"),
            (Kind::Char, "space", "space"),
            (Kind::Key, "shift_a", "shift a"),
            (Kind::Key, "_", "_"),
            (Kind::Key, "&", "&amp;"),
            (Kind::SoundIcon, "new-line", "new line"),
        ] {
            assert_eq!(ssml(kind, text), expected);
        }
        let spelling =
            Settings::default().with(&vec![("spelling_mode".to_owned(), "on".to_owned())]).unwrap();
        let spelled = Message::new(Kind::Text, "<speak>ab</speak>".to_owned(), spelling);
        let passages = vitstream_text::markup::ssml(&spelled.ssml()).unwrap();
        assert_eq!(passages[0].text, "A, B");
    }

    #[test]
    fn tags_are_left_out() {
        for (text, plain) in [
            ("<speak>a<x y='z'/>b &lt;&amp;lt;</speak>", " a b <&lt; "),
            ("1 < 2", "1 < 2"),
            ("no & markup", "no & markup"),
            ("", ""),
        ] {
            assert_eq!(without_markup(text), plain);
            assert!(vitstream_text::markup::ssml(&escaped(plain)).is_ok());
        }
    }
}
