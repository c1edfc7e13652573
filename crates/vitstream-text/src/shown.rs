//! Strangers' texts within messages.

use std::fmt;

/// A stranger's text within a message: quoted, control characters escaped, and not longer than a line.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A message stays one line.
        const LONGEST: usize = 60;
        match self.0.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_stays_on_one_line() {
        assert_eq!(Shown("a\n\u{1b}[2J").to_string(), r#""a\n\u{1b}[2J""#);
        assert!(Shown(&"x".repeat(1 << 20)).to_string().len() < 70);
    }
}
