//! Holds a copy of libespeak-ng against recorded answers: `library LIB[:DATA] COLUMN`, where COLUMN is a copy's name in
//! `tests/data/piper.jsonl`, or `piper` for the whole way to Piper's ids. Without arguments it says so and ends well.
//! `scripts/text_conformance.py` runs it.
//!
//! Piper's own copy is in a Python module, `espeakbridge.so`. To load it without Python a program must export the four
//! symbols below (link it with `-rdynamic`) and have libm's symbols at hand for all.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};
use vitstream_text::clauses::clauses;
use vitstream_text::phonemizer::{EspeakLibrary, Location, Phonemizer};
use vitstream_text::{Frontend, Passage};

/// Stands in for Python's objects, which are only compared with or returned by what is not called here.
#[cfg(target_os = "linux")]
#[allow(non_upper_case_globals, unsafe_code, reason = "Python's names, found by the loader")]
mod python {
    #[unsafe(no_mangle)]
    #[used]
    static _Py_NoneStruct: [usize; 8] = [0; 8];
    #[unsafe(no_mangle)]
    #[used]
    static _Py_TrueStruct: [usize; 8] = [0; 8];
    #[unsafe(no_mangle)]
    #[used]
    static _Py_FalseStruct: [usize; 8] = [0; 8];
    #[unsafe(no_mangle)]
    #[used]
    static PyExc_RuntimeError: [usize; 8] = [0; 8];

    /// Lets libraries that do not name libm find it.
    pub(super) fn share_libm() {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: loading libm runs nothing.
        match unsafe { Library::open(Some("libm.so.6"), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => std::mem::forget(library),
            Err(error) => eprintln!("libm.so.6: {error}"),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [location, column] = &*arguments else {
        println!("skipped: expected LIB[:DATA] and the name of a copy of espeak-ng, or `piper`");
        return ExitCode::SUCCESS;
    };
    #[cfg(target_os = "linux")]
    python::share_libm();
    let mut library = match EspeakLibrary::open(&Location::parse(location)) {
        Ok(library) => library,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let lines = include_str!("../tests/data/piper.jsonl").lines();
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let lines: Vec<&Value> = lines.iter().filter(|line| line["phoneme_type"] != "pinyin").collect();
    let check = |line: &&&Value| match &**column {
        "piper" => piper(line, &mut library),
        column => answers(line, column, &mut library),
    };
    let right = lines.iter().filter(check).count();
    let unknown =
        library.ipa("fr-fr", "a").map_or_else(|error| error.to_string(), |ipa| format!("answered {ipa}"));
    println!("{}: {right} of {} texts as {column}; {unknown}", library.about(), lines.len());
    let mut good = right == lines.len() && unknown.contains("near names: fr, ");
    // What was said before must not matter: two dots at a text's end would be heard in the next text.
    let before = library.ipa("en-us", "Hello").unwrap_or_default();
    for text in ["Wait..", "a..", ".."] {
        let _ = library.ipa("en-us", text);
        let after = library.ipa("en-us", "Hello").unwrap_or_default();
        if after != before || before.is_empty() {
            eprintln!("after {text:?}: expected {before:?}, found {after:?}");
            good = false;
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether every clause of a text is said as the copy of this name said it.
fn answers(line: &Value, column: &str, library: &mut EspeakLibrary) -> bool {
    let voice = line["voice"].as_str().expect("a voice");
    let pieces = line["espeak"].as_array().map(Vec::as_slice).unwrap_or_default();
    pieces.iter().all(|piece| {
        let cut = clauses(voice, piece["text"].as_str().expect("a text"));
        let found = cut.iter().map(|clause| library.ipa(voice, &clause.text));
        let found: Result<Vec<String>, _> = found.collect();
        let expected = &piece["others"][column];
        let is_same = found.as_ref().is_ok_and(|found| json!(found) == *expected);
        if !is_same {
            eprintln!("{voice} {}\n  expected {expected}\n  found    {found:?}", piece["text"]);
        }
        is_same
    })
}

/// Whether a text has Piper's ids.
fn piper(line: &Value, library: &mut EspeakLibrary) -> bool {
    let maps: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("../tests/data/phoneme_id_maps.json")).expect("JSON");
    let config = json!({
        "espeak": {"voice": line["voice"]},
        "phoneme_type": line["phoneme_type"],
        "phoneme_id_map": maps[line["map"].as_str().expect("a name")],
        "vowel_clusters": line["vowel_clusters"],
    });
    let frontend = Frontend::from_json(config.as_object().expect("an object")).expect("a front end");
    let frontend = frontend.near_phonemes(false).arabic_as_written(true);
    // The diacritizer is not part of this.
    let text = if line["tashkeel"] == true { &line["espeak"][0]["text"] } else { &line["text"] };
    let found = frontend.speak(&Passage::from(text.as_str().expect("a text")), library);
    let ids = found.map(|sentences| sentences.into_iter().map(|sentence| sentence.ids).collect::<Vec<_>>());
    let is_same = ids.as_ref().is_ok_and(|ids| json!(ids) == line["ids"]);
    if !is_same {
        eprintln!("{} {text}\n  expected {}\n  found    {ids:?}", line["voice"], line["ids"]);
    }
    is_same
}
