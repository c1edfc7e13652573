//! The whole conversion of a text into ids.

use std::fmt;

use crate::markup::{Markdown, ssml};
use crate::phonemizer::{About, Phonemizer, PhonemizerError, Recorded};
use crate::{Error, Frontend, Lexicon, Passage, Sentence, Sentences};

type Boxed = Box<dyn Phonemizer + Send>;

/// Reads text for a voice, combining markup, lexicon, front end and phonemizer.
///
/// ```
/// use vitstream_text::phonemizer::find;
/// use vitstream_text::{Frontend, Reader};
///
/// let json = serde_json::json!({
///     "phoneme_type": "text",
///     "phoneme_id_map": {"^": [1], "_": [0], "$": [2], "h": [3], "i": [4]},
/// });
/// let frontend = Frontend::from_json(json.as_object().unwrap())?;
///
/// // No phonemizer is searched for, because this voice reads letters.
/// let mut reader = Reader::new(frontend, 5_000, || find(None));
/// assert_eq!(reader.whole("hi")?[0].ids, [1, 0, 3, 0, 4, 0, 2]);
/// # Ok::<(), vitstream_text::Error>(())
/// ```
pub struct Reader {
    frontend: Frontend,
    lexicon: Lexicon,
    /// Set if Markdown is removed.
    markdown: Option<Markdown>,
    most_ids: usize,
    find: Box<dyn Fn() -> Result<Boxed, PhonemizerError> + Send>,
    /// Searched for on first use.
    phonemizer: Option<Boxed>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("frontend", &self.frontend).finish_non_exhaustive()
    }
}

impl Reader {
    /// Creates a reader. Sentences of more than `most_ids` ids are spoken in parts, divided as by
    /// [`Frontend::speak_within`]; `find` returns the phonemizer on first use.
    pub fn new(
        frontend: Frontend,
        most_ids: usize,
        find: impl Fn() -> Result<Boxed, PhonemizerError> + Send + 'static,
    ) -> Self {
        let find = Box::new(find);
        Self { frontend, lexicon: Lexicon::default(), markdown: None, most_ids, find, phonemizer: None }
    }

    /// Sets a lexicon for the pronunciation of words.
    #[must_use]
    pub fn lexicon(mut self, lexicon: Lexicon) -> Self {
        self.lexicon = lexicon;
        self
    }

    /// Removes Markdown from the text.
    #[must_use]
    pub fn markdown(mut self, markdown: bool) -> Self {
        self.markdown = markdown.then(Markdown::default);
        self
    }

    /// The voice's front end.
    pub fn frontend(&self) -> &Frontend {
        &self.frontend
    }

    /// Searches for the phonemizer, if the voice needs one.
    ///
    /// # Errors
    /// When there is none.
    pub fn prepare(&mut self) -> Result<(), PhonemizerError> {
        if self.frontend.voice().is_some() && self.phonemizer.is_none() {
            self.phonemizer = Some((self.find)()?);
        }
        Ok(())
    }

    /// Description of the phonemizer, if the voice needs one and it was found.
    pub fn about(&self) -> Option<About> {
        self.phonemizer.as_ref().map(|phonemizer| phonemizer.about())
    }

    /// Takes the phonemizer, which is searched for again on the next use.
    pub fn take_phonemizer(&mut self) -> Option<Boxed> {
        self.phonemizer.take()
    }

    /// Begins a text that arrives in pieces; pass the sentences found to [`sentence`](Self::sentence).
    pub fn begin(&mut self) -> Sentences {
        self.markdown = self.markdown.take().map(|_| Markdown::default());
        self.frontend.stream()
    }

    /// Reads one of the sentences of a divided text. It may contain nothing to speak.
    ///
    /// # Errors
    /// As [`Frontend::speak`], and when there is no phonemizer.
    pub fn sentence(&mut self, text: &str) -> Result<Vec<Sentence>, Error> {
        self.prepare()?;
        let stripped = self.markdown.as_mut().map(|markdown| markdown.strip(text));
        self.speak(Passage::from(stripped.as_deref().unwrap_or(text)))
    }

    /// Reads a whole text.
    ///
    /// # Errors
    /// As [`sentence`](Self::sentence).
    pub fn whole(&mut self, text: &str) -> Result<Vec<Sentence>, Error> {
        let mut stream = self.begin().whole_sentences();
        let mut found = Vec::new();
        for sentence in stream.push(text).into_iter().chain(stream.finish()) {
            found.append(&mut self.sentence(&sentence)?);
        }
        Ok(found)
    }

    /// Reads a whole SSML text.
    ///
    /// # Errors
    /// As [`sentence`](Self::sentence), and when the markup cannot be read.
    pub fn ssml(&mut self, text: &str) -> Result<Vec<Sentence>, Error> {
        self.prepare()?;
        let mut found = Vec::new();
        for passage in ssml(text)? {
            found.append(&mut self.speak(passage)?);
        }
        Ok(found)
    }

    /// Reads text given as phonemes: see [`Frontend::phonemes`].
    ///
    /// # Errors
    /// When the voice has none of them.
    pub fn phonemes(&self, phonemes: &str) -> Result<Sentence, Error> {
        known(self.frontend.phonemes(phonemes))
    }

    /// As [`phonemes`](Self::phonemes), for separate phonemes: see [`Frontend::tokens`].
    ///
    /// # Errors
    /// As [`phonemes`](Self::phonemes).
    pub fn tokens(&self, phonemes: Vec<String>) -> Result<Sentence, Error> {
        known(self.frontend.tokens("", phonemes))
    }

    fn speak(&mut self, passage: Passage) -> Result<Vec<Sentence>, Error> {
        let passage = self.lexicon.apply(passage);
        let mut nobody = Recorded::default();
        let phonemizer: &mut dyn Phonemizer = match &mut self.phonemizer {
            Some(phonemizer) => phonemizer,
            None => &mut nobody,
        };
        self.frontend.speak_within(self.most_ids, passage, phonemizer)
    }
}

/// Checks that the voice has at least one of the phonemes.
fn known(sentence: Sentence) -> Result<Sentence, Error> {
    if sentence.phonemes.iter().all(|phoneme| sentence.missing.contains(phoneme)) {
        return Err(Error::Text(
            "the voice has none of these phonemes; `phoneme_id_map` in its JSON lists the available ones"
                .to_owned(),
        ));
    }
    Ok(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters() -> Frontend {
        let ids: serde_json::Map<String, serde_json::Value> = ["_", "^", "$", "a", " ", ",", ".", "b"]
            .into_iter()
            .enumerate()
            .map(|(id, symbol)| (symbol.to_owned(), serde_json::json!([id])))
            .collect();
        let json = serde_json::json!({"phoneme_type": "text", "phoneme_id_map": ids});
        Frontend::from_json(json.as_object().unwrap()).unwrap()
    }

    fn absent() -> Result<Boxed, PhonemizerError> {
        Err(PhonemizerError::NotInstalled { tried: "nowhere".to_owned() })
    }

    #[test]
    fn what_is_too_long_is_said_in_parts_that_are_the_whole() {
        let text = "a, a, a, b.";
        let whole = Reader::new(letters(), 5_000, absent).whole(text).unwrap();
        assert_eq!(whole.len(), 1);
        let parts = Reader::new(letters(), 12, absent).whole(text).unwrap();
        assert_eq!(parts.len(), 4);
        assert!(parts.iter().all(|part| part.ids.len() <= 12));
        let joined: Vec<&str> = parts.iter().map(|part| &*part.text).collect();
        assert_eq!(joined.join(" "), text);
    }

    #[test]
    fn markdown_goes_on_over_the_sentences_of_a_text_only() {
        let mut reader = Reader::new(letters(), 5_000, absent).markdown(true);
        assert_eq!(reader.whole("**a** b").unwrap()[0].phonemes.concat(), "a b");
        // Code that one text leaves open must not silence the next one.
        assert_eq!(reader.whole("```\na").unwrap(), []);
        assert_eq!(reader.whole("a").unwrap()[0].phonemes.concat(), "a");
    }

    #[test]
    fn phonemes_that_the_voice_lacks_are_an_error() {
        let reader = Reader::new(letters(), 5_000, absent);
        assert_eq!(reader.phonemes("ab").unwrap().ids, [1, 0, 3, 0, 7, 0, 2]);
        assert!(reader.phonemes("xyz").unwrap_err().to_string().contains("none of these phonemes"));
        assert!(reader.phonemes("").unwrap_err().to_string().contains("none of these phonemes"));
    }

    #[test]
    fn nobody_is_looked_for_before_somebody_is_needed() {
        let ids = serde_json::json!({"^": [1], "_": [0], "$": [2], "a": [3]});
        let json = serde_json::json!({"espeak": {"voice": "en-us"}, "phoneme_id_map": ids});
        let frontend = Frontend::from_json(json.as_object().unwrap()).unwrap();
        let mut reader = Reader::new(frontend, 5_000, absent);
        assert_eq!(reader.phonemes("a").unwrap().ids, [1, 0, 3, 0, 2]);
        assert!(matches!(reader.whole("a"), Err(Error::Phonemizer(PhonemizerError::NotInstalled { .. }))));
        assert!(reader.about().is_none());
    }
}
