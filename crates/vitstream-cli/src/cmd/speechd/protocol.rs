//! Parses the server's lines and determines when they are answered.

use super::settings::Pairs;

/// Limit on the bytes of a message, equal to that of an SSML document.
const MAX_MESSAGE: usize = 16 << 20;

/// A complete request of the server.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Init,
    Audio(Pairs),
    LogLevel,
    ListVoices,
    Set(Pairs),
    Say(Kind, String),
    Stop,
    Pause,
    Quit,
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A text in SSML.
    Text,
    /// A single character, or its name.
    Char,
    /// A key and the modifiers held with it, joined by `_`.
    Key,
    /// The name of a sound icon.
    SoundIcon,
}

/// The result of a line.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// More lines are expected.
    More,
    Reply(&'static str),
    Request(Request),
}

/// A command followed by lines, up to a line with a dot.
#[derive(Clone, Copy)]
enum Command {
    Audio,
    LogLevel,
    Set,
    Say(Kind),
}

/// The state of the conversation with the server.
#[derive(Default)]
pub(super) struct Conversation {
    open: Option<Open>,
}

struct Open {
    command: Command,
    lines: Vec<String>,
    bytes: usize,
}

impl Conversation {
    /// Processes the next line, without its end. `None` is a line that is too long.
    pub(super) fn line(&mut self, line: Option<&[u8]>) -> Step {
        let Some(open) = &mut self.open else { return self.command(line.unwrap_or_default()) };
        if line == Some(&b"."[..]) {
            let Open { command, lines, bytes } = self.open.take().expect("it is there");
            return if bytes > MAX_MESSAGE { Step::Reply(CANNOT_SPEAK) } else { complete(command, lines) };
        }
        open.bytes = open.bytes.saturating_add(line.map_or(usize::MAX, |line| line.len() + 1));
        if open.bytes <= MAX_MESSAGE {
            // A line of text that consists of a dot is sent as two dots.
            let line = line.map(|line| if line == b".." { &b"."[..] } else { line }).unwrap_or_default();
            open.lines.push(String::from_utf8_lossy(line).into_owned());
        } else {
            open.lines = Vec::new();
        }
        Step::More
    }

    fn command(&mut self, line: &[u8]) -> Step {
        let (command, reply) = match line {
            b"INIT" => return Step::Request(Request::Init),
            b"LIST VOICES" => return Step::Request(Request::ListVoices),
            b"STOP" => return Step::Request(Request::Stop),
            b"PAUSE" => return Step::Request(Request::Pause),
            b"QUIT" => return Step::Request(Request::Quit),
            b"AUDIO" => (Command::Audio, "207 OK RECEIVING AUDIO SETTINGS\n"),
            b"LOGLEVEL" => (Command::LogLevel, "207 OK RECEIVING LOGLEVEL SETTINGS\n"),
            b"SET" => (Command::Set, "203 OK RECEIVING SETTINGS\n"),
            b"SPEAK" => (Command::Say(Kind::Text), RECEIVING),
            b"CHAR" => (Command::Say(Kind::Char), RECEIVING),
            b"KEY" => (Command::Say(Kind::Key), RECEIVING),
            b"SOUND_ICON" => (Command::Say(Kind::SoundIcon), RECEIVING),
            _ => return Step::Reply("300 ERR UNKNOWN COMMAND\n"),
        };
        self.open = Some(Open { command, lines: Vec::new(), bytes: 0 });
        Step::Reply(reply)
    }
}

const RECEIVING: &str = "202 OK RECEIVING MESSAGE\n";

pub(super) const CANNOT_SPEAK: &str = "301 ERROR CANT SPEAK\n";

fn complete(command: Command, lines: Vec<String>) -> Step {
    let kind = match command {
        Command::LogLevel => return Step::Request(Request::LogLevel),
        Command::Audio | Command::Set => {
            let pairs = lines.iter().map(|line| {
                let (name, value) = line.split_once('=')?;
                Some((name.trim().to_owned(), value.trim().to_owned()))
            });
            return match pairs.collect::<Option<Pairs>>() {
                None => Step::Reply("302 ERROR BAD SYNTAX\n"),
                Some(pairs) if matches!(command, Command::Set) => Step::Request(Request::Set(pairs)),
                Some(pairs) => Step::Request(Request::Audio(pairs)),
            };
        }
        Command::Say(kind) => kind,
    };
    if kind != Kind::Text && lines.len() != 1 {
        return Step::Reply("305 DATA MORE THAN ONE LINE\n");
    }
    Step::Request(Request::Say(kind, lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;
    use crate::cmd::lines::read_line;

    /// Returns a limited number of bytes at a time.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = self.1.min(buffer.len()).min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn steps(input: &[u8], portion: usize) -> Vec<Step> {
        let mut conversation = Conversation::default();
        let mut input = BufReader::with_capacity(portion, Dripping(input, portion));
        let mut steps = Vec::new();
        while let Some(line) = read_line(&mut input).unwrap() {
            let line = line.ok();
            let line = line.as_deref().map(|line| line.strip_suffix(b"\n").unwrap_or(line));
            steps.push(conversation.line(line));
        }
        steps.retain(|step| *step != Step::More);
        steps
    }

    fn reply(text: &'static str) -> Step {
        Step::Reply(text)
    }

    #[test]
    fn requests_are_the_same_however_they_arrive() {
        let input = "INIT\nSET\nrate=-20\npunctuation_some=a=b\n.\nSPEAK\n<speak>\n..\né.\n...\n</speak>\n.\nSTOP\nLIST VOICES\nKEY\nshift_a\n.\nQUIT\n";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [
            Step::Request(Request::Init),
            reply("203 OK RECEIVING SETTINGS\n"),
            Step::Request(Request::Set(vec![pair("rate", "-20"), pair("punctuation_some", "a=b")])),
            reply(RECEIVING),
            Step::Request(Request::Say(Kind::Text, "<speak>\n.\né.\n...\n</speak>".to_owned())),
            Step::Request(Request::Stop),
            Step::Request(Request::ListVoices),
            reply(RECEIVING),
            Step::Request(Request::Say(Kind::Key, "shift_a".to_owned())),
            Step::Request(Request::Quit),
        ];
        for portion in 1..=input.len() {
            assert_eq!(steps(input.as_bytes(), portion), expected, "{portion} bytes at a time");
        }
    }

    #[test]
    fn what_is_wrong_is_answered_and_forgotten() {
        for (input, answer) in [
            ("HELLO", reply("300 ERR UNKNOWN COMMAND\n")),
            ("", reply("300 ERR UNKNOWN COMMAND\n")),
            ("SET\nrate\n.", reply("302 ERROR BAD SYNTAX\n")),
            ("CHAR\na\nb\n.", reply("305 DATA MORE THAN ONE LINE\n")),
            ("CHAR\n.", reply("305 DATA MORE THAN ONE LINE\n")),
        ] {
            let steps = steps(format!("{input}\nSTOP\n").as_bytes(), 7);
            assert_eq!(steps[steps.len() - 2..], [answer, Step::Request(Request::Stop)], "{input:?}");
        }
        // Invalid bytes are invalid in the middle of a text as well.
        let steps = steps(b"SPEAK\na\xff\n.\n", 3);
        assert_eq!(steps[1], Step::Request(Request::Say(Kind::Text, "a\u{fffd}".to_owned())));
    }

    #[test]
    fn a_message_has_a_limit() {
        let long = |bytes: usize| {
            let mut conversation = Conversation::default();
            conversation.line(Some(b"SPEAK"));
            let line = vec![b'a'; 1023];
            for _ in 0..bytes / 1024 {
                assert_eq!(conversation.line(Some(&line)), Step::More);
            }
            conversation.line(Some(b"."))
        };
        assert!(
            matches!(long(MAX_MESSAGE), Step::Request(Request::Say(_, text)) if text.len() == MAX_MESSAGE - 1)
        );
        assert_eq!(long(MAX_MESSAGE + 1024), Step::Reply(CANNOT_SPEAK));
        let mut conversation = Conversation::default();
        for line in [Some(&b"SPEAK"[..]), None, Some(b"a")] {
            conversation.line(line);
        }
        assert_eq!(conversation.line(Some(b".")), Step::Reply(CANNOT_SPEAK));
        assert_eq!(conversation.line(Some(b"INIT")), Step::Request(Request::Init));
    }
}
