//! Compares clauses with espeak-ng's own, for any chunking of the text.

use proptest::prelude::*;
use serde_json::Value;
use vitstream_text::clauses::{Clause, Clauses, clauses};

type Cut = (String, String, bool);

fn cuts(clauses: &[Clause]) -> Vec<Cut> {
    clauses.iter().map(|c| (c.text.clone(), c.mark.to_string(), c.ends)).collect()
}

#[test]
fn hostile_texts_are_cut_as_espeak_ng_cuts_them() {
    let mut wrong = Vec::new();
    let mut texts = 0;
    for line in include_str!("data/clauses.jsonl").lines() {
        let (voice, text, expected): (String, String, Vec<Cut>) = serde_json::from_str(line).unwrap();
        texts += 1;
        let found = cuts(&clauses(&voice, &text));
        if found != expected {
            wrong.push(format!("{voice} {text:?}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert_eq!(texts, 500);
    assert!(wrong.is_empty(), "{} of {texts}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn long_clauses_are_cut_as_espeak_ng_cuts_them() {
    for line in include_str!("data/long_clauses.jsonl").lines() {
        let (voice, text, expected): (String, String, Vec<(String, bool)>) =
            serde_json::from_str(line).unwrap();
        let found = clauses(&voice, &text);
        let found: Vec<_> = found.iter().map(|c| (c.mark.to_string(), c.ends)).collect();
        assert_eq!(found, expected, "{voice} {text:?}");
    }
}

#[test]
fn texts_of_the_recorded_voices_have_the_clauses_that_were_answered() {
    for line in include_str!("data/piper.jsonl").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for piece in line["espeak"].as_array().into_iter().flatten() {
            let found = clauses(line["voice"].as_str().unwrap(), piece["text"].as_str().unwrap());
            let found: Vec<_> = found.iter().map(|c| (c.mark.as_str(), c.ends)).collect();
            let answered = piece["clauses"].as_array().unwrap().iter();
            let answered: Vec<_> =
                answered.map(|c| (c[1].as_str().unwrap(), c[2].as_bool().unwrap())).collect();
            assert_eq!(found, answered, "{:?}", piece["text"]);
        }
    }
}

#[test]
fn an_empty_text_is_one_empty_clause() {
    assert_eq!(cuts(&clauses("en-us", "")), [(String::new(), String::new(), true)]);
}

/// Text in which every character that the rules mention is frequent.
fn hostile() -> impl Strategy<Value = String> {
    let bits = proptest::sample::select(vec![
        "a", "Z", "IV", "X", "3", " ", "  ", "\n", "\r\n", "\t", "\u{a0}", "\u{ad}", "\u{200c}", ".", "..",
        "...", "?", "!", ",", ":", ";", "–", "…", "。", "，", "।", "॥", "\u{2029}", "'", "'s", "\"", "(",
        ")", "[[", "]]", "«", "-", "e.g. ", "Dr. ", "中", "é", "😀", "Я", "word",
    ]);
    proptest::collection::vec(bits, 0..80).prop_map(|bits| bits.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_are_the_text_and_no_chunking_matters(
        text in hostile(),
        voice in proptest::sample::select(vec!["en-us", "de", "ka"]),
        long in 1usize..20,
        cuts in proptest::collection::vec(1usize..9, 1..20),
    ) {
        let text = text.repeat(long);
        let whole = clauses(voice, &text);
        prop_assert_eq!(whole.iter().map(|c| &*c.text).collect::<String>(), &*text);
        let mut machine = Clauses::new(voice);
        let (mut chunked, mut rest, mut sizes) = (Vec::new(), text.chars().peekable(), cuts.iter().cycle());
        while rest.peek().is_some() {
            let chunk: String = rest.by_ref().take(*sizes.next().unwrap()).collect();
            chunked.extend(machine.push(&chunk));
        }
        chunked.extend(machine.finish());
        prop_assert_eq!(&chunked, &whole);
        // The state machine is in its initial state.
        let mut again = machine.push(&text);
        again.extend(machine.finish());
        prop_assert_eq!(again, whole);
    }
}

#[test]
fn ten_megabytes_without_a_clause_are_not_held() {
    for (chunk, longest) in [("äöü", 800), (".", 70_000), (" ", 70_000), ("\n", 70_000), ("\u{ad}", 70_000)]
    {
        let chunk = chunk.repeat(100);
        let mut machine = Clauses::new("en-us");
        let (mut given, mut cut) = (0, 0);
        while given < 10_000_000 {
            for clause in machine.push(&chunk) {
                assert!(clause.text.len() < longest);
                cut += clause.text.len();
            }
            given += chunk.len();
            assert!(machine.pending().len() < longest);
        }
        assert_eq!(cut + machine.pending().len(), given);
    }
}
