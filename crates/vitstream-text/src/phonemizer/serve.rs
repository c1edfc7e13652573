//! Serves a phonemizer through a pipe.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use super::{About, Phonemizer};

/// A request, one per line.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Request {
    pub(super) voice: String,
    pub(super) clause: String,
}

/// An answer, one per line: `ipa`, or `error`.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Answer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ipa: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// A description of the phonemizer, if the program gives one.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub(super) about: Option<About>,
}

/// Limit on the bytes of a request; a longer line is not a clause.
const MAX_REQUEST: u64 = 1 << 20;

/// Answers JSON lines `{"voice": ..., "clause": ...}` with `{"ipa": ...}` or `{"error": ...}` until `input`
/// ends, as [`Command`](super::Command) expects of a program. A server runs the library in a child process
/// that calls this function, so that a crash of the library costs only one clause.
///
/// # Errors
/// When a line cannot be read or written, or is longer than 1 MiB. An invalid request is answered with an
/// error.
pub fn serve_phonemizer(
    input: impl BufRead,
    mut output: impl Write,
    phonemizer: &mut dyn Phonemizer,
) -> io::Result<()> {
    let mut input = input.take(0);
    let mut line = Vec::new();
    loop {
        input.set_limit(MAX_REQUEST);
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if input.limit() == 0 && line.last() != Some(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a request longer than 1 MiB"));
        }
        let answer = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => match phonemizer.ipa(&request.voice, &request.clause) {
                Ok(ipa) => Answer { ipa: Some(ipa), ..Answer::default() },
                Err(error) => Answer { error: Some(error.to_string()), ..Answer::default() },
            },
            Err(error) => {
                Answer { error: Some(format!("not a valid request: {error}")), ..Answer::default() }
            }
        };
        let mut text = serde_json::to_vec(&Answer { about: Some(phonemizer.about()), ..answer })?;
        text.push(b'\n');
        output.write_all(&text)?;
        output.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phonemizer::Recorded;

    fn serve(input: &[u8]) -> (io::Result<()>, Vec<Answer>) {
        let mut recorded = Recorded::default();
        recorded.insert("en", "a", "ɐ");
        let mut output = Vec::new();
        let result = serve_phonemizer(input, &mut output, &mut recorded);
        let lines = output.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        (result, lines.map(|line| serde_json::from_slice(line).unwrap()).collect())
    }

    #[test]
    fn every_line_is_answered() {
        let (result, answers) = serve(
            b"{\"voice\":\"en\",\"clause\":\"a\"}\nrubbish\n\xff\n{\"voice\":\"en\",\"clause\":\"\\ud800\"}\n\n{\"voice\":\"en\",\"clause\":\"b\"}\n{\"voice\":\"en\",\"clause\":\"a\"}",
        );
        result.unwrap();
        let ipa: Vec<_> = answers.iter().map(|answer| answer.ipa.as_deref()).collect();
        assert_eq!(ipa, [Some("ɐ"), None, None, None, None, None, Some("ɐ")]);
        assert!(answers[1].error.as_deref().unwrap().starts_with("not a valid request"));
        assert!(answers[3].error.as_deref().unwrap().contains("hex escape"), "{answers:?}");
        assert!(answers[5].error.as_deref().unwrap().contains("no recorded answer"));
        assert_eq!(answers[0].about.as_ref().unwrap().library, "recorded answers");
    }

    #[test]
    fn an_endless_line_is_not_collected() {
        let (result, answers) = serve(&vec![b'x'; 3 << 20]);
        assert!(result.unwrap_err().to_string().contains("longer than 1 MiB"));
        assert!(answers.is_empty());
    }
}
