//! Compares the sentences of a stream with those of the whole text.

use proptest::prelude::*;
use serde_json::json;
use vitstream_text::phonemizer::{About, Phonemizer, PhonemizerError};
use vitstream_text::{Frontend, Lexicon, Passage, Sentence, markup};

/// Returns the clause's letters as phonemes.
struct Letters;

impl Phonemizer for Letters {
    fn ipa(&mut self, _: &str, clause: &str) -> Result<String, PhonemizerError> {
        Ok(clause.chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect())
    }

    fn about(&self) -> About {
        About::default()
    }
}

fn frontend(voice: &str) -> Frontend {
    let json = json!({"phoneme_type": "espeak", "espeak": {"voice": voice},
        "phoneme_id_map": {"^": [1], "_": [0], "$": [2]}});
    Frontend::from_json(json.as_object().unwrap()).unwrap()
}

fn spoken(frontend: &Frontend, texts: &[String]) -> Vec<(String, Vec<String>)> {
    let sentences =
        texts.iter().flat_map(|text| frontend.speak(&Passage::from(&**text), &mut Letters).unwrap());
    sentences.map(|Sentence { text, phonemes, .. }| (text, phonemes)).collect()
}

fn hostile() -> impl Strategy<Value = String> {
    let bits = proptest::sample::select(vec![
        "a",
        "Z",
        "IV",
        "3",
        " ",
        " ",
        "\n",
        "\n\n",
        "\u{ad}",
        ".",
        "...",
        "?",
        "!",
        ",",
        "。",
        "'",
        "'s",
        "(",
        "[",
        "[[",
        "]]",
        "[[x]]",
        "[[ a b ]]",
        "e.g. ",
        "Dr. ",
        "word ",
        "Is it. ",
        "-",
        "é",
    ]);
    proptest::collection::vec(bits, 0..60).prop_map(|bits| bits.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_says_what_the_whole_text_says(
        text in hostile(),
        voice in proptest::sample::select(vec!["en-us", "de", "ka"]),
        sizes in proptest::collection::vec(1usize..9, 1..20),
    ) {
        let frontend = frontend(voice);
        let mut stream = frontend.stream().whole_sentences();
        let mut sentences = Vec::new();
        let mut rest = text.chars().peekable();
        let mut sizes = sizes.iter().cycle();
        while rest.peek().is_some() {
            let chunk: String = rest.by_ref().take(*sizes.next().unwrap()).collect();
            sentences.extend(stream.push(&chunk));
        }
        sentences.extend(stream.finish());
        let joined = sentences.concat();
        prop_assert!(text.starts_with(&joined) && text[joined.len()..].trim().is_empty());
        prop_assert_eq!(spoken(&frontend, &sentences), spoken(&frontend, &[text]));
    }

    #[test]
    fn where_the_first_sentence_is_cut_does_not_depend_on_chunks(text in hostile(), size in 1usize..9) {
        let frontend = frontend("en-us");
        let cut = |size: usize| {
            let mut stream = frontend.stream();
            let chars: Vec<char> = text.chars().collect();
            let mut sentences: Vec<String> =
                chars.chunks(size).flat_map(|chunk| stream.push(&chunk.iter().collect::<String>())).collect();
            sentences.extend(stream.finish());
            sentences
        };
        prop_assert_eq!(cut(size), cut(usize::MAX >> 1));
    }

    #[test]
    fn passes_take_any_text(text in "\\PC{0,60}", entry in "[a-c ]{1,5}") {
        let lexicon: Result<Lexicon, _> = format!("{entry} = /x/\nb = bee").parse();
        let _ = markup::ssml(&text);
        let mut markdown = markup::Markdown::default();
        markdown.strip(&text);
        if let Ok(lexicon) = lexicon {
            let passage = lexicon.apply(Passage::from(&*text));
            let _ = frontend("en-us").speak(&passage, &mut Letters).unwrap();
        }
    }
}
