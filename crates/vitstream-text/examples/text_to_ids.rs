//! Measures the way from text to ids: `text_to_ids LIB[:DATA]` prints the median time of a sentence over all recorded
//! texts, with the library loaded; with no argument the library that is found. Build it with `--release`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vitstream_text::phonemizer::{EspeakLibrary, Location, Phonemizer};
use vitstream_text::{Frontend, Passage};

const ROUNDS: usize = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let location = std::env::args().nth(1).map(|location| Location::parse(&location));
    let start = Instant::now();
    let mut library = EspeakLibrary::find(location.as_ref())?;
    let loading = start.elapsed();
    let maps: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("../tests/data/phoneme_id_maps.json"))?;
    let mut times: Vec<Duration> = Vec::new();
    let (mut texts, mut total) = (0, 0);
    for line in include_str!("../tests/data/piper.jsonl").lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["phoneme_type"] != "espeak" {
            continue;
        }
        let map = &maps[line["map"].as_str().ok_or("a name")?];
        let config = json!({"espeak": {"voice": line["voice"]}, "phoneme_id_map": map});
        let frontend = Frontend::from_json(config.as_object().ok_or("an object")?)?.arabic_as_written(true);
        let passage = Passage::from(line["text"].as_str().ok_or("a text")?);
        // Setting a voice reads its dictionary; a program speaks with one.
        let sentences = frontend.speak(&passage, &mut library)?.len();
        if sentences == 0 {
            continue;
        }
        texts += 1;
        total += sentences;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let sentences = std::hint::black_box(frontend.speak(&passage, &mut library)?).len();
            times.push(start.elapsed() / u32::try_from(sentences)?);
        }
    }
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!(
        "{}: loaded in {loading:?}; {texts} texts, {total} sentences: median {:?} a sentence, 95 of 100 within {:?}",
        library.about(),
        at(50),
        at(95)
    );
    Ok(())
}
