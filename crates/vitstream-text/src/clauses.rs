//! Splits text into clauses as espeak-ng does.
//!
//! Piper's sentences are espeak-ng's, and so are the marks between its clauses; both follow from the text
//! alone by the rules below, which were measured. A phonemizer therefore only has to provide the sounds of
//! one clause, and text that is still being written can be spoken clause by clause.
//!
//! The rules need one character after a mark's white space to know whether the mark ends the clause (two
//! after `.'`). [`Clauses`] is a state machine that takes one character at a time and never looks at one
//! twice, so the division of the input into chunks makes no difference.

mod classes;

pub use classes::Mark;
use classes::{Class, class, holds_together, is_bracket_or_quote, is_white};

/// A clause longer than this many bytes ends after the next character that is not like a letter.
const LONG: usize = 725;
/// A clause never exceeds this many bytes.
const LONGEST: usize = 796;
/// Characters that do not count towards these limits, such as ten thousand dots or spaces, are limited as
/// well.
const LIMIT: usize = 1 << 16;

/// Languages that write ordinals with a dot, by the names of espeak-ng's voices.
const ORDINAL_DOTS: [&str; 14] =
    ["da", "de", "et", "fi", "fo", "hu", "kl", "lt", "ltg", "lv", "nb", "nl", "sl", "smj"];
/// Languages in which a sentence may begin with a lower-case letter, because they have no capitals or use
/// them differently.
const SMALL_BEGINNINGS: [&str; 3] = ["ka", "mto", "xex"];

/// A part of a text that is pronounced as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Clause {
    /// The text with its mark and all white space after it: all clauses together are the text.
    pub text: String,
    /// The mark at its end.
    pub mark: Mark,
    /// True if a sentence ends here.
    pub ends: bool,
}

/// Splits a text into clauses while it arrives.
///
/// ```
/// use vitstream_text::clauses::Clauses;
///
/// let mut clauses = Clauses::new("en-us");
/// assert!(clauses.push("Hello, world. ").iter().map(|clause| &*clause.text).eq(["Hello, "]));
/// assert!(clauses.push("And").iter().map(|clause| &*clause.text).eq(["world. "]));
/// assert_eq!(clauses.finish()[0].text, "And");
/// ```
#[derive(Clone, Debug)]
pub struct Clauses {
    ordinal_dots: bool,
    small_beginnings: bool,
    /// The current clause so far.
    text: String,
    /// Bytes in it that are skipped or swallowed, and do not count.
    passed_over: usize,
    /// Set if it contains a letter or digit.
    spoken: bool,
    state: State,
    /// Set if a clause has been returned since the text began.
    any: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Nothing is pending.
    Text,
    /// After a newline, in the white space that follows; the newline is at this byte.
    Newline(usize),
    /// After two newlines: all white space belongs to the clause that ends here.
    Paragraph,
    /// In a sequence of marks.
    Run(Run),
    /// In the white space after a sequence of marks, with this number of newlines.
    After(Run, usize),
    /// As above, but at an apostrophe, which begins at this byte.
    Apostrophe(Run, usize),
}

/// A sequence of marks, of which the first one decides.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    class: Class,
    /// Number of dots at its start, while nothing else has followed; three form an ellipsis.
    dots: Option<usize>,
    /// The two characters before it, the nearest first.
    before: [char; 2],
}

impl Run {
    fn class(&self) -> Class {
        if self.dots.is_some_and(|dots| dots >= 3) { Class::ELLIPSIS } else { self.class }
    }
}

impl Clauses {
    /// Creates the state for a text of one of espeak-ng's voices; its language determines the treatment of
    /// ordinals.
    pub fn new(voice: &str) -> Self {
        let language = voice.split(['-', '_', '+']).next().unwrap_or_default().to_lowercase();
        Self {
            ordinal_dots: ORDINAL_DOTS.contains(&&*language),
            small_beginnings: SMALL_BEGINNINGS.contains(&&*language),
            text: String::new(),
            passed_over: 0,
            spoken: false,
            state: State::Text,
            any: false,
        }
    }

    /// Adds text and returns the clauses that are now complete.
    pub fn push(&mut self, text: &str) -> Vec<Clause> {
        let mut clauses = Vec::new();
        text.chars().for_each(|c| self.take(c, &mut clauses));
        clauses
    }

    /// Ends the text and returns the rest. A text without any other clause gives one empty clause. Another
    /// text may follow.
    pub fn finish(&mut self) -> Vec<Clause> {
        let mut clauses = Vec::new();
        match self.state {
            State::Text | State::Paragraph => {}
            State::Newline(at) => self.replay(at, &mut clauses),
            State::Run(run) => self.settle(self.decide(run, 0, None), &mut clauses),
            State::After(run, newlines) => self.settle(self.decide(run, newlines, None), &mut clauses),
            State::Apostrophe(run, at) => {
                let held = self.text.split_off(at);
                self.settle(self.decide(run, 0, Some('\'')), &mut clauses);
                self.text.push_str(&held);
            }
        }
        if !self.text.is_empty() || !self.any {
            self.end(Mark::None, true, &mut clauses);
        }
        self.any = false;
        clauses
    }

    /// Returns the clause that would end a sentence with a mark if nothing followed, for a text that has
    /// stopped arriving. The text before it then counts as finished.
    pub fn flush(&mut self) -> Option<Clause> {
        let (State::Run(run) | State::After(run, _)) = self.state else { return None };
        (run.class().ends && self.spoken).then(|| self.finish().pop()).flatten()
    }

    /// The text that has not been returned yet.
    pub fn pending(&self) -> &str {
        &self.text
    }

    /// Begins a new clause.
    fn start(&mut self) -> String {
        self.passed_over = 0;
        self.spoken = false;
        self.state = State::Text;
        std::mem::take(&mut self.text)
    }

    fn end(&mut self, mark: Mark, ends: bool, clauses: &mut Vec<Clause>) {
        let text = self.start();
        self.any = true;
        clauses.push(Clause { text, mark, ends });
    }

    fn take(&mut self, c: char, clauses: &mut Vec<Clause>) {
        if self.text.len() >= LIMIT {
            self.end(Mark::None, false, clauses);
        }
        match self.state {
            State::Text => self.take_text(c, clauses),
            State::Newline(_) if c == '\n' => {
                self.text.push(c);
                self.state = State::Paragraph;
            }
            State::Newline(_) if is_white(c) => self.text.push(c),
            State::Newline(at) => {
                self.replay(at, clauses);
                self.take(c, clauses);
            }
            State::Paragraph if is_white(c) => self.text.push(c),
            State::Paragraph => {
                self.end(Mark::None, true, clauses);
                self.take(c, clauses);
            }
            State::Run(run) => self.take_run(run, c, clauses),
            State::After(run, newlines) if is_white(c) => {
                // All of it counts as one space.
                if self.text.ends_with(is_white) {
                    self.passed_over += c.len_utf8();
                }
                self.text.push(c);
                self.state = State::After(run, newlines + usize::from(c == '\n'));
            }
            State::After(run, 0) if c == '\'' && run.class.mark == Mark::Period => {
                let at = self.text.len();
                self.text.push(c);
                self.state = State::Apostrophe(run, at);
            }
            State::After(run, newlines) => {
                self.settle(self.decide(run, newlines, Some(c)), clauses);
                self.take(c, clauses);
            }
            State::Apostrophe(run, at) => {
                let held = self.text.split_off(at);
                let cut = if c == 's' { None } else { self.decide(run, 0, Some('\'')) };
                self.settle(cut, clauses);
                held.chars().chain([c]).for_each(|c| self.take(c, clauses));
            }
        }
    }

    /// The newline at `at` was a space, and the white space after it is processed again as it is.
    fn replay(&mut self, at: usize, clauses: &mut Vec<Clause>) {
        let held = self.text.split_off(at);
        self.state = State::Text;
        for white in held.chars() {
            self.text.push(white);
            self.pass(white, clauses);
        }
    }

    fn settle(&mut self, cut: Option<(Mark, bool)>, clauses: &mut Vec<Clause>) {
        self.state = State::Text;
        match cut {
            Some((mark, ends)) => self.end(mark, ends, clauses),
            None => self.cut_long('.', clauses),
        }
    }

    fn take_text(&mut self, c: char, clauses: &mut Vec<Clause>) {
        match class(c) {
            Some(class) => {
                let dots = (c == '.').then_some(1);
                let mut before = self.text.chars().rev().chain([' ', ' ']);
                let before = [before.next(), before.next()].map(Option::unwrap_or_default);
                self.state = State::Run(Run { class, dots, before });
            }
            None if c == '\n' => self.state = State::Newline(self.text.len()),
            None => {}
        }
        self.text.push(c);
        if matches!(c, '\u{ad}' | '\u{200c}') {
            self.passed_over += c.len_utf8();
        } else if self.state == State::Text {
            self.pass(c, clauses);
        }
    }

    /// Processes a character without a special meaning.
    fn pass(&mut self, c: char, clauses: &mut Vec<Clause>) {
        self.spoken |= c.is_alphanumeric();
        self.cut_long(c, clauses);
    }

    /// Ends the clause after `c` if it is too long.
    fn cut_long(&mut self, c: char, clauses: &mut Vec<Clause>) {
        let len = self.text.len() - self.passed_over;
        if len >= LONGEST || (len > LONG && !holds_together(c)) {
            self.end(Mark::None, false, clauses);
        }
    }

    fn take_run(&mut self, run: Run, c: char, clauses: &mut Vec<Clause>) {
        if class(c).is_some() {
            self.text.push(c);
            self.passed_over += c.len_utf8();
            // A dot after dots counts; after anything else, all are swallowed.
            self.state = State::Run(match run.dots {
                Some(dots) if c == '.' => Run { dots: Some(dots + 1), ..run },
                _ => Run { class: run.class(), dots: None, ..run },
            });
            return;
        }
        let run = Run { class: run.class(), dots: None, ..run };
        if is_white(c) || is_bracket_or_quote(c) || !run.class.needs_space {
            self.state = State::After(run, 0);
        } else {
            self.state = State::Text;
            self.cut_long('.', clauses);
        }
        self.take(c, clauses);
    }

    /// The end of the clause after a sequence of marks and `newlines`, before `next`; `None` if the clause
    /// continues.
    fn decide(&self, run: Run, newlines: usize, next: Option<char>) -> Option<(Mark, bool)> {
        let class = run.class();
        if newlines >= 2 {
            return Some((Mark::None, true));
        }
        let goes_on = newlines == 0
            && (!self.spoken
                || class.mark == Mark::Period
                    && (next.is_some_and(|c| c.is_lowercase()) && !self.small_beginnings
                        || self.ordinal_dots && is_ordinal(run.before, next)));
        (!goes_on).then_some((class.mark, class.ends))
    }
}

/// Returns true if a dot after `before` marks an ordinal.
fn is_ordinal(before: [char; 2], next: Option<char>) -> bool {
    let is_roman = |c| matches!(c, 'I' | 'V' | 'X' | 'L');
    let [last, first] = before;
    is_roman(last) && (is_roman(first) || is_white(first)) || last.is_numeric() && next == Some('-')
}

/// All clauses of a whole text.
pub fn clauses(voice: &str, text: &str) -> Vec<Clause> {
    let mut machine = Clauses::new(voice);
    let mut clauses = machine.push(text);
    clauses.append(&mut machine.finish());
    clauses
}
