//! Any markup is refused, or read as passages that can be spoken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitstream_text::markup::ssml;

mod letters;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match ssml(text) {
        Ok(passages) => {
            let frontend = letters::frontend("en-us");
            for passage in passages {
                assert!((0.25..=4.0).contains(&passage.rate) && passage.pause.as_secs() <= 60);
                let mut end = 0;
                for (range, _) in &passage.pronunciations {
                    assert!(range.start >= end && passage.text.get(range.clone()).is_some());
                    end = range.end;
                }
                let _ = frontend.speak(&passage, &mut letters::Letters);
            }
        }
        Err(error) => assert!(error.to_string().len() < 1000),
    }
});
