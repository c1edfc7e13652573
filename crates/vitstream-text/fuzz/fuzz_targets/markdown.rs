//! Any Markdown, whole and cut into sentences: nothing panics, and what comes out is text of about the same length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitstream_text::markup::Markdown;

mod letters;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    // Of a cell of a table a comma is made, of an end a blank line.
    assert!(Markdown::default().strip(&text).len() <= 4 * text.len() + 16);
    let mut stream = letters::frontend("en-us").stream();
    let mut markdown = Markdown::default();
    for sentence in stream.push(&text).into_iter().chain(stream.finish()) {
        markdown.strip(&sentence);
    }
});
