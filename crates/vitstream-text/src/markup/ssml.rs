//! A part of SSML.

use std::time::Duration;

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

use crate::error::Error;
use crate::passage::Passage;
use crate::shown::Shown;

/// Longer than any text that one would mark up as one, and short enough for its passages to fit into memory.
const MAX_SIZE: usize = 16 << 20;
/// Deeper than any document is.
const MAX_DEPTH: usize = 64;
/// A longer pause is a mistake, and its silence would fill memory or a disk.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Beyond these nobody understands a word, and the network was not trained for it.
const RATES: std::ops::RangeInclusive<f32> = 0.25..=4.0;

/// Reads SSML: passages of text, each at one rate, with the silence after it.
///
/// | element | what it does |
/// |---|---|
/// | `speak` | holds all; it may be missing |
/// | `p`, `s` | end the sentence before and after them |
/// | `break` | ends the sentence; silence for `time` (`500ms`, `1.5s`, at most a minute), or by `strength`: `none`, `x-weak` 0.1 s, `weak` 0.2, `medium` 0.4 (as without either), `strong` 0.7, `x-strong` 1.2 |
/// | `phoneme` | says its content as `ph` in `alphabet="ipa"` |
/// | `sub` | says `alias` instead of its content |
/// | `prosody` | `rate`: `x-slow` 0.5, `slow` 0.75, `medium`, `fast` 1.25, `x-fast` 1.5, `80%`, `+10%`, `1.2`; ends the sentence before and after it |
/// | `say-as` | `interpret-as="characters"` or `"spell-out"`: its letters one by one |
/// | `mark` | its `name` is told when it is reached |
/// | `emphasis`, `w`, `token` | their content is read |
///
/// All other elements, and attributes that would change the sound, are refused by name; nothing is read aloud that is
/// not text. Comments say nothing; entities of one's own are not known.
///
/// ```
/// use vitstream_text::markup::ssml;
///
/// let passages = ssml("<speak>One. <break time='1s'/> <sub alias='doctor'>Dr.</sub> Who &amp; co.</speak>").unwrap();
/// assert_eq!(passages[0].text, "One. ");
/// assert_eq!(passages[0].pause.as_secs(), 1);
/// assert_eq!(passages[1].text, " doctor Who & co.");
/// ```
///
/// # Errors
/// When the text is not well-formed, or has something that is refused.
pub fn ssml(text: &str) -> Result<Vec<Passage>, Error> {
    if text.len() > MAX_SIZE {
        return Err(Error::Markup(format!("expected at most {MAX_SIZE} bytes, found {}", text.len())));
    }
    let mut reader = Reader::from_str(text);
    let mut document = Document::new();
    loop {
        let at = reader.buffer_position();
        let event = reader
            .read_event()
            .map_err(|error| malformed(text, reader.error_position(), &error.to_string()))?;
        let is_empty = matches!(event, Event::Empty(_));
        match event {
            Event::Start(element) | Event::Empty(element) => {
                document.open(&element).map_err(|problem| problem.at(text, at))?;
                if is_empty {
                    document.close();
                }
            }
            Event::End(_) => document.close(),
            Event::Text(content) => document.text(&content.xml10_content()),
            Event::CData(content) => document.text(&content.xml10_content()),
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().ok().flatten().map(String::from);
                let name = reference.xml10_content();
                let known = quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned);
                let content = character.or(known).ok_or_else(|| {
                    Problem::Malformed(format!("no entity is called {}", Shown(&name))).at(text, at)
                })?;
                if content.contains('\0') {
                    return Err(malformed(text, at, "a NUL character"));
                }
                document.text(&content);
            }
            Event::DocType(_) => return Err(Problem::Refused("a document type".to_owned()).at(text, at)),
            Event::PI(_) => return Err(Problem::Refused("a processing instruction".to_owned()).at(text, at)),
            Event::Comment(_) | Event::Decl(_) => {}
            Event::Eof => break,
        }
    }
    if let Some(element) = document.elements.last() {
        return Err(malformed(text, text.len() as u64, &format!("<{}> is not closed", element.name)));
    }
    Ok(document.finish())
}

fn malformed(text: &str, at: u64, problem: &str) -> Error {
    Problem::Malformed(problem.to_owned()).at(text, at)
}

enum Problem {
    Malformed(String),
    Refused(String),
}

impl Problem {
    fn at(self, text: &str, at: u64) -> Error {
        let at = usize::try_from(at).map_or(text.len(), |at| at.min(text.len()));
        let before = &text.as_bytes()[..at];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        match self {
            Self::Malformed(problem) => {
                Error::Markup(format!("line {line}: {}", problem.chars().take(200).collect::<String>()))
            }
            Self::Refused(what) => Error::Unsupported {
                what: format!("{what} (line {line} of the markup)"),
                instead: "known are speak, p, s, break, phoneme, sub, prosody rate, say-as characters, mark, emphasis, w, token",
            },
        }
    }
}

/// An element that is open.
struct Element {
    name: String,
    /// The rate before it.
    rate: f32,
    kind: Kind,
}

enum Kind {
    /// Its content is read.
    Plain,
    /// A sentence ends at its end.
    Ends,
    /// Its content is said as the IPA; it began at this byte of the passage.
    Phoneme(String, usize),
    /// Its content is not read.
    Silent,
    /// Its content is spelled.
    Spelled,
}

struct Document {
    passages: Vec<Passage>,
    current: Passage,
    /// Marks before which nothing was said: they wait for the next text.
    waiting: Vec<(usize, String)>,
    elements: Vec<Element>,
}

impl Document {
    fn new() -> Self {
        Self { passages: Vec::new(), current: Passage::default(), waiting: Vec::new(), elements: Vec::new() }
    }

    fn text(&mut self, text: &str) {
        if self.elements.iter().any(|element| matches!(element.kind, Kind::Silent)) {
            return;
        }
        if self.elements.iter().any(|element| matches!(element.kind, Kind::Spelled)) {
            // Letters with commas are said one by one, and large ones by their names.
            for c in text.chars().filter(|c| !c.is_whitespace()) {
                if self.current.text.ends_with(char::is_alphanumeric) {
                    self.current.text.push_str(", ");
                }
                self.current.text.extend(c.to_uppercase());
            }
            return;
        }
        // Newlines in markup are white space; two of them end a sentence only in plain text.
        self.current.text.extend(text.chars().map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c }));
    }

    /// Ends the passage; silence follows it.
    fn cut(&mut self, pause: Duration) {
        let rate = self.current.rate;
        let mut passage = std::mem::replace(&mut self.current, Passage { rate, ..Passage::default() });
        if passage.text.trim().is_empty() {
            // Nothing was said: the silence is that of the passage before.
            self.waiting.extend(passage.marks.into_iter().map(|(_, name)| (0, name)));
            match self.passages.last_mut() {
                Some(last) => last.pause = (last.pause + pause).min(MAX_PAUSE),
                None if pause.is_zero() => {}
                None => self.passages.push(Passage { pause, ..Passage::default() }),
            }
            return;
        }
        passage.pause = pause;
        if !self.waiting.is_empty() {
            self.waiting.append(&mut passage.marks);
            passage.marks = std::mem::take(&mut self.waiting);
        }
        self.passages.push(passage);
    }

    fn open(&mut self, element: &BytesStart<'_>) -> Result<(), Problem> {
        let name = element.local_name().as_ref().to_owned();
        if self.elements.len() >= MAX_DEPTH {
            return Err(Problem::Malformed(format!(
                "expected at most {MAX_DEPTH} elements within each other"
            )));
        }
        let rate = self.current.rate;
        let attributes = Attributes::of(element, &name)?;
        // Within an element with a pronunciation only text makes sense.
        if self.elements.iter().any(|open| matches!(open.kind, Kind::Phoneme(..))) {
            return Err(Problem::Refused(format!("<{name}> within <phoneme>")));
        }
        let kind = match &*name {
            "speak" => Kind::Plain,
            "emphasis" | "w" | "token" => Kind::Plain,
            "p" | "s" => {
                self.cut(Duration::ZERO);
                Kind::Ends
            }
            "break" => {
                attributes.only(&["time", "strength"])?;
                self.cut(pause(&attributes)?);
                Kind::Silent
            }
            "phoneme" => {
                attributes.only(&["alphabet", "ph"])?;
                match attributes.get("alphabet") {
                    None | Some("ipa") => {}
                    Some(other) => return Err(Problem::Refused(format!("the alphabet {}", Shown(other)))),
                }
                Kind::Phoneme(attributes.need("ph")?.to_owned(), self.current.text.len())
            }
            "mark" => {
                attributes.only(&["name"])?;
                self.current.marks.push((self.current.text.len(), attributes.need("name")?.to_owned()));
                Kind::Silent
            }
            "sub" => {
                attributes.only(&["alias"])?;
                let alias = attributes.need("alias")?;
                self.text(alias);
                Kind::Silent
            }
            "prosody" => {
                attributes.only(&["rate"])?;
                self.cut(Duration::ZERO);
                if let Some(by) = attributes.get("rate") {
                    self.current.rate = (rate * factor(by)?).clamp(*RATES.start(), *RATES.end());
                }
                Kind::Ends
            }
            "say-as" => {
                attributes.only(&["interpret-as"])?;
                match attributes.need("interpret-as")? {
                    "characters" | "spell-out" => Kind::Spelled,
                    other => return Err(Problem::Refused(format!("<say-as interpret-as={}>", Shown(other)))),
                }
            }
            _ => return Err(Problem::Refused(format!("the element {}", Shown(&name)))),
        };
        self.elements.push(Element { name, rate, kind });
        Ok(())
    }

    fn close(&mut self) {
        let Some(element) = self.elements.pop() else { return };
        match element.kind {
            Kind::Ends => self.cut(Duration::ZERO),
            Kind::Phoneme(ipa, start) => {
                if self.current.text.len() == start {
                    // Sounds without a text need a place to stand.
                    self.current.text.push('_');
                }
                self.current.pronunciations.push((start..self.current.text.len(), ipa));
            }
            Kind::Plain | Kind::Silent | Kind::Spelled => {}
        }
        self.current.rate = element.rate;
    }

    fn finish(mut self) -> Vec<Passage> {
        self.cut(Duration::ZERO);
        if let Some(last) = self.passages.last_mut() {
            let end = last.text.len();
            last.marks.extend(self.waiting.into_iter().map(|(_, name)| (end, name)));
        }
        self.passages
    }
}

/// The attributes of an element.
struct Attributes<'a> {
    element: &'a str,
    all: Vec<(String, String)>,
}

impl<'a> Attributes<'a> {
    fn of(start: &BytesStart<'_>, element: &'a str) -> Result<Self, Problem> {
        let read = start.attributes().map(|attribute| {
            let attribute = attribute.map_err(|error| Problem::Malformed(error.to_string()))?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value = value.map_err(|error| Problem::Malformed(error.to_string()))?;
            if value.contains(char::is_control) {
                return Err(Problem::Malformed(format!("a control character in {}", Shown(&value))));
            }
            Ok((attribute.key.as_ref().to_owned(), value.into_owned()))
        });
        Ok(Self { element, all: read.collect::<Result<_, _>>()? })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.all.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    fn need(&self, name: &str) -> Result<&str, Problem> {
        let missing = || Problem::Malformed(format!("<{}>: expected the attribute `{name}`", self.element));
        self.get(name).filter(|value| !value.trim().is_empty()).ok_or_else(missing)
    }

    /// Refuses all attributes but these and those of XML itself.
    fn only(&self, names: &[&str]) -> Result<(), Problem> {
        match self.all.iter().find(|(key, _)| !names.contains(&&**key) && !key.starts_with("xml")) {
            Some((key, _)) => {
                Err(Problem::Refused(format!("the attribute {} of <{}>", Shown(key), self.element)))
            }
            None => Ok(()),
        }
    }
}

fn pause(attributes: &Attributes<'_>) -> Result<Duration, Problem> {
    let problem = |found: &str| {
        Problem::Malformed(format!(
            "<break>: expected a time as `500ms` or `1.5s`, at most {MAX_PAUSE:?}, found {}",
            Shown(found)
        ))
    };
    if let Some(text) = attributes.get("time") {
        let number = |digits: &str| digits.trim().parse::<f64>().ok();
        let seconds = match text.strip_suffix("ms") {
            Some(digits) => number(digits).map(|number| number / 1000.0),
            None => text.strip_suffix('s').and_then(number),
        };
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        return time.filter(|time| *time <= MAX_PAUSE).ok_or_else(|| problem(text));
    }
    let milliseconds = match attributes.get("strength") {
        Some("none") => 0,
        Some("x-weak") => 100,
        Some("weak") => 200,
        None | Some("medium") => 400,
        Some("strong") => 700,
        Some("x-strong") => 1200,
        Some(other) => {
            let found = Shown(other);
            return Err(Problem::Malformed(format!(
                "<break>: expected a strength as `medium`, found {found}"
            )));
        }
    };
    Ok(Duration::from_millis(milliseconds))
}

/// By how much a rate is faster.
fn factor(text: &str) -> Result<f32, Problem> {
    let number = |text: &str| text.trim().parse::<f32>().ok().filter(|number| number.is_finite());
    let factor = match text.trim() {
        "x-slow" => Some(0.5),
        "slow" => Some(0.75),
        "medium" | "default" => Some(1.0),
        "fast" => Some(1.25),
        "x-fast" => Some(1.5),
        text => match text.strip_suffix('%') {
            Some(change) if change.starts_with(['+', '-']) => {
                number(change).map(|change| 1.0 + change / 100.0)
            }
            Some(percent) => number(percent).map(|percent| percent / 100.0),
            None => number(text),
        },
    };
    factor.filter(|factor| RATES.contains(factor)).ok_or_else(|| {
        let (slow, fast) = (RATES.start(), RATES.end());
        let found = Shown(text);
        Problem::Malformed(format!(
            "<prosody>: expected a rate as `slow`, `80%` or `1.2`, from {slow} to {fast}, found {found}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        ssml(text).unwrap_err().to_string()
    }

    #[test]
    fn the_subset_is_read() {
        let passages = ssml(
            "<?xml version='1.0'?><speak version='1.1' xml:lang='en'>A&#x62;c\n<!-- x -->\
             <phoneme alphabet=\"ipa\" ph=\"təmɑːtoʊ\">tomato</phoneme>, <say-as interpret-as='characters'>usa</say-as>.\
             <break/><p>New.</p><prosody rate='slow'>Slow <prosody rate='200%'>fast</prosody></prosody> \
             <emphasis>end</emphasis><![CDATA[ <b>]]></speak>",
        )
        .unwrap();
        let texts: Vec<&str> = passages.iter().map(|passage| &*passage.text).collect();
        assert_eq!(texts, ["Abc tomato, U, S, A.", "New.", "Slow ", "fast", " end <b>"]);
        assert_eq!(passages[0].pronunciations, [(4..10, "təmɑːtoʊ".to_owned())]);
        assert_eq!(passages[0].pause.as_millis(), 400);
        let rates: Vec<f32> = passages.iter().map(|passage| passage.rate).collect();
        assert_eq!(rates, [1.0, 1.0, 0.75, 1.5, 1.0]);
        assert_eq!(ssml("no markup").unwrap(), [Passage::from("no markup")]);
        assert_eq!(ssml("").unwrap(), []);
    }

    #[test]
    fn marks_have_places() {
        let passages = ssml(
            "<mark name='first'/><p/>One <mark name='a'/> two.<mark name='b'/><break/><mark name='c'/> Three<p/><mark name='end'/>",
        )
        .unwrap();
        let places: Vec<Vec<(&str, &str)>> = passages
            .iter()
            .map(|passage| passage.marks.iter().map(|(at, name)| (&**name, &passage.text[*at..])).collect())
            .collect();
        assert_eq!(
            places,
            [vec![("first", "One  two."), ("a", " two."), ("b", "")], vec![("c", " Three"), ("end", "")]]
        );
        assert_eq!(ssml("<mark name='alone'/>").unwrap(), []);
        assert!(error("<mark/>").contains("<mark>: expected the attribute `name`"));
    }

    #[test]
    fn pauses_add_up_to_a_limit() {
        let passages = ssml("<break time='1s'/>a<break time='40s'/><break time='40s'/>").unwrap();
        assert_eq!(passages.iter().map(|passage| passage.pause.as_secs()).collect::<Vec<_>>(), [1, 60]);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (text, part) in [
            ("<speak>\n<audio src='x'/></speak>", "the element \"audio\" (line 2 of the markup)"),
            ("<prosody pitch='high'>a</prosody>", "the attribute \"pitch\" of <prosody>"),
            ("<say-as interpret-as='date'>1</say-as>", "<say-as interpret-as=\"date\">"),
            ("<phoneme alphabet='x-sampa' ph='a'>a</phoneme>", "the alphabet \"x-sampa\""),
            ("<!DOCTYPE x [<!ENTITY a 'b'>]><speak/>", "a document type"),
            ("<phoneme ph='a'><break/></phoneme>", "<break> within <phoneme>"),
        ] {
            assert!(error(text).contains(part), "{}", error(text));
        }
    }

    #[test]
    fn malformed_markup_says_where() {
        for (text, part) in [
            ("a\n<b", "line 2"),
            ("<speak>a", "<speak> is not closed"),
            ("<speak></p></speak>", "line 1"),
            ("a &x; b", "no entity is called \"x\""),
            ("a &#0; b", "line 1"),
            ("a & b", "line 1"),
            ("<break time='2 days'/>", "found \"2 days\""),
            ("<break time='1e30s'/>", "at most 60s"),
            ("<break time='-1s'/>", "at most 60s"),
            ("<prosody rate='0'>a</prosody>", "from 0.25 to 4"),
            ("<prosody rate='nan'>a</prosody>", "from 0.25 to 4"),
            ("<sub>a</sub>", "<sub>: expected the attribute `alias`"),
            (&"<p>".repeat(100), "at most 64 elements"),
        ] {
            assert!(error(text).contains(part), "{text}: {}", error(text));
        }
    }
}
