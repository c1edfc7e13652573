//! A lexicon, a newline with a NUL, and a text: the lexicon is refused, or the text keeps its words and every
//! pronunciation has a place in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitstream_text::{Lexicon, Passage};

mod letters;

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(bytes.get(at + 1..).unwrap_or_default());
    let lexicon = match Lexicon::from_bytes(&bytes[..at]) {
        Ok(lexicon) => lexicon,
        Err(error) => return assert!(error.to_string().len() < 1000),
    };
    let once = lexicon.apply(Passage::from(&*text));
    // A second time finds what has a pronunciation as it is.
    for passage in [lexicon.apply(once.clone()), once] {
        let mut end = 0;
        for (range, _) in &passage.pronunciations {
            assert!(range.start >= end && passage.text.get(range.clone()).is_some());
            end = range.end;
        }
        let _ = letters::frontend("en-us").speak(&passage, &mut letters::Letters);
    }
});
