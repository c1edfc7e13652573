//! Tests with this machine's copy of espeak-ng, if there is one. `scripts/text_conformance.py` brings two
//! copies of its own.

use std::thread;

use vitstream_text::phonemizer::{EspeakLibrary, Phonemizer, PhonemizerError};

fn library() -> Option<EspeakLibrary> {
    match EspeakLibrary::find(None) {
        Ok(library) => Some(library),
        Err(error @ PhonemizerError::NotInstalled { .. }) => {
            let text = error.to_string();
            for system in ["Debian", "Fedora", "Arch", "macOS", "Windows"] {
                assert!(text.contains(system), "{text}");
            }
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_was_said_before_does_not_matter() {
    let Some(mut library) = library() else { return };
    let hello = library.ipa("en-us", "Hello").unwrap();
    assert!(hello.starts_with('h') && !library.about().version.is_empty(), "{hello} {}", library.about());
    for text in ["Wait..", "..", "", "\n\n", "!", &"a".repeat(5000)] {
        library.ipa("en-us", text).unwrap();
        library.ipa("de", "Straße").unwrap();
        assert_eq!(library.ipa("en-us", "Hello").unwrap(), hello, "after {text:?}");
    }
}

#[test]
fn bad_input_is_an_error_and_the_next_clause_is_said() {
    let Some(mut library) = library() else { return };
    assert!(matches!(library.ipa("en-us", "a\0b"), Err(PhonemizerError::Nul)));
    assert!(matches!(library.ipa("en\0", "a"), Err(PhonemizerError::Nul)));
    for voice in ["fr-fr", "", "no such voice", "../../etc/passwd", &"x".repeat(10_000)] {
        match library.ipa(voice, "a") {
            Err(PhonemizerError::UnknownVoice { voice: named, near }) => {
                assert!(named.len() <= 60);
                assert!(voice != "fr-fr" || near[0] == "fr", "{near:?}");
            }
            other => panic!("{voice:?}: {other:?}"),
        }
    }
    assert!(library.ipa("en-us", "Hello").is_ok());
}

#[test]
fn threads_take_turns() {
    let Some(mut library) = library() else { return };
    let texts = [("en-us", "Hello"), ("de", "Hallo"), ("fr", "Bonjour")];
    let alone = texts.map(|(voice, text)| library.ipa(voice, text).unwrap());
    thread::scope(|scope| {
        for ((voice, text), expected) in texts.iter().zip(&alone) {
            scope.spawn(move || {
                let Some(mut library) = self::library() else { return };
                for _ in 0..50 {
                    assert_eq!(library.ipa(voice, text).unwrap(), *expected);
                }
            });
        }
    });
}
