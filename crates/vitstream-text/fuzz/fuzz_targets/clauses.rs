//! Any text, cut anywhere: its clauses are the text, no chunking makes a difference, and a stream's sentences say what
//! the whole text says. The first byte chooses the language and the chunks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitstream_text::clauses::{Clauses, clauses};
use vitstream_text::{Frontend, Passage};

mod letters;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    let voice = ["en-us", "de", "ka"][usize::from(choice) % 3];
    let size = usize::from(choice) / 3 % 7 + 1;
    let chars: Vec<char> = text.chars().collect();
    let chunks = || chars.chunks(size).map(|chunk| chunk.iter().collect::<String>());

    let whole = clauses(voice, &text);
    assert_eq!(whole.iter().map(|clause| &*clause.text).collect::<String>(), text);
    let mut machine = Clauses::new(voice);
    let mut chunked: Vec<_> = chunks().flat_map(|chunk| machine.push(&chunk)).collect();
    chunked.extend(machine.finish());
    assert_eq!(chunked, whole);

    let frontend = letters::frontend(voice);
    let mut stream = frontend.stream().whole_sentences();
    let mut sentences: Vec<String> = chunks().flat_map(|chunk| stream.push(&chunk)).collect();
    sentences.extend(stream.finish());
    assert!(text.starts_with(&sentences.concat()));
    if text.contains('\0') {
        return;
    }
    assert_eq!(said(&frontend, sentences.iter().map(|text| &**text)), said(&frontend, [&*text]));
});

fn said<'a>(frontend: &Frontend, texts: impl IntoIterator<Item = &'a str>) -> Vec<Vec<String>> {
    let speak =
        |text: &str| frontend.speak(&Passage::from(text), &mut letters::Letters).expect("letters are said");
    texts.into_iter().flat_map(speak).map(|sentence| sentence.phonemes).collect()
}
