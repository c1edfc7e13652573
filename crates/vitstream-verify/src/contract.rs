//! Checks the data next to the graphs: the metadata that drive players, and the voice's JSON. Every field
//! that a consumer of the folder reads is checked as that consumer reads it, and compared with the graphs.

use std::ops::RangeInclusive;

use serde_json::{Map, Value as Json};
use vitstream_synth::{SAMPLE_RATES, Scales};

use crate::onnx_file::OnnxFile;
use crate::pair::Pair;
use crate::report::{Check, Part, Verdict, not_checked};
use crate::{MOST_PER_FRAME, stages};
use vitstream_contract::files;
use vitstream_source::config::VoiceConfig;

/// Limit on the rows of a voice's tables.
const MOST_ROWS: u64 = 1 << 24;
/// Limit on the channels of a signal.
const MOST_CHANNELS: u64 = 1 << 16;
/// Limit on the problems that are listed.
const MOST_PROBLEMS: usize = 4;

/// Numeric metadata, with their ranges.
const NUMBERS: [(&str, RangeInclusive<u64>); 7] = [
    ("sample_rate", *SAMPLE_RATES.start() as u64..=*SAMPLE_RATES.end() as u64),
    ("n_speakers", 1..=MOST_ROWS),
    ("num_symbols", 1..=MOST_ROWS),
    ("hop_length", 1..=MOST_PER_FRAME as u64),
    ("receptive_field", 0..=MOST_PER_FRAME as u64),
    ("inter_channels", 1..=MOST_CHANNELS),
    ("gin_channels", 0..=MOST_CHANNELS),
];

/// Checks the metadata of all files: numbers must be valid, equal in every file, and match the graphs.
pub(super) fn metadata(pair: &Pair) -> Check {
    const NAME: &str = "metadata";
    let mut problems = Vec::new();
    for file in pair.files() {
        for (key, range) in &NUMBERS {
            let Some(text) = file.graph.metadata.get(*key) else { continue };
            if !text.parse().is_ok_and(|number| range.contains(&number)) {
                let (least, most) = (range.start(), range.end());
                problems.push(format!(
                    "{}: `{key}`: expected a number from {least} to {most}, found {}",
                    name(file),
                    quoted(text)
                ));
            }
        }
    }
    if problems.is_empty() {
        problems.extend(contradictions(pair));
        problems.extend(pair.encoder.iter().flat_map(|(encoder, _)| against_graph(pair, encoder)));
    }
    match (pair.files().next(), problems.is_empty()) {
        (None, _) => not_checked(Part::Files, NAME, "no file can be read"),
        (_, true) => Check::new(Part::Files, NAME, Verdict::Ok, "matches the graphs in every file"),
        (_, false) => Check::new(Part::Files, NAME, Verdict::Failed, joined(&problems)),
    }
}

/// Numbers that differ between files.
fn contradictions(pair: &Pair) -> Vec<String> {
    let number = |file: &OnnxFile, key: &str| Some((name(file), file.graph.metadata.get(key)?.clone()));
    let differing = NUMBERS.iter().filter_map(|(key, _)| {
        let said: Vec<_> = pair.files().filter_map(|file| number(file, key)).collect();
        let (first, rest) = said.split_first()?;
        let other = rest.iter().find(|other| other.1 != first.1)?;
        Some(format!("`{key}` is {} in {} and {} in {}", first.1, first.0, other.1, other.0))
    });
    differing.collect()
}

/// Numbers that contradict the encoder's graph.
fn against_graph(pair: &Pair, encoder: &OnnxFile) -> Vec<String> {
    let channels = |id| encoder.graph.value(id).shape.as_ref()?.get(1)?.as_const();
    let several = encoder.input("sid").is_some();
    let speakers = if several { stages::speakers(encoder) } else { Some(1) };
    let shown = [
        ("n_speakers", speakers),
        ("num_symbols", stages::symbols(encoder)),
        ("inter_channels", encoder.output("z").and_then(channels).and_then(|n| usize::try_from(n).ok())),
    ];
    let mut problems: Vec<String> = shown
        .into_iter()
        .filter_map(|(key, shown)| {
            let (said, shown) = (pair.number(key)?, shown?);
            (said != shown)
                .then(|| format!("`{key}` is {said}, but the graph of {} has {shown}", files::ENCODER))
        })
        .collect();
    if several && speakers.is_none() && pair.number("n_speakers") == Some(1) {
        problems.push(format!("`n_speakers` is 1, but {} takes a speaker", files::ENCODER));
    }
    problems
}

/// Checks the fields of the voice's JSON that clients read.
pub(super) fn config(config: &VoiceConfig, pair: &Pair) -> Check {
    let json = config.json();
    let speakers = pair.speakers(None).unwrap_or(1);
    let mut problems = Vec::new();
    let audio = object(json, "audio", &mut problems);
    let rates = u64::from(*SAMPLE_RATES.start())..=u64::from(*SAMPLE_RATES.end());
    number(audio, "audio.sample_rate", rates, &mut problems);
    let rate = audio.and_then(|audio| audio.get("sample_rate")).and_then(Json::as_u64);
    if let (Some(said), Some(shown)) = (rate, pair.number("sample_rate"))
        && said != shown as u64
    {
        problems.push(format!("`audio.sample_rate` is {said}, but the graphs say {shown}"));
    }
    number(Some(json), "num_symbols", 1..=MOST_ROWS, &mut problems);
    number(Some(json), "num_speakers", 1..=MOST_ROWS, &mut problems);
    if pair.encoder.is_some()
        && let Some(said) = json.get("num_speakers").and_then(Json::as_u64)
        && said != speakers as u64
    {
        problems.push(format!("`num_speakers` is {said}, but the graphs have {speakers}"));
    }
    scales(object(json, "inference", &mut problems), &mut problems);
    for (speaker, id) in object(json, "speaker_id_map", &mut problems).into_iter().flatten() {
        if id.as_u64().is_none_or(|id| id >= speakers as u64) {
            let last = speakers.saturating_sub(1);
            problems.push(format!(
                "`speaker_id_map`: {}: expected a number from 0 to {last}, found {}",
                quoted(speaker),
                quoted(&id.to_string())
            ));
        }
    }
    for (symbol, ids) in object(json, "phoneme_id_map", &mut problems).into_iter().flatten() {
        let known = |ids: &Vec<Json>| ids.iter().all(|id| id.as_u64().is_some());
        if !ids.as_array().is_some_and(known) {
            problems.push(format!(
                "`phoneme_id_map`: {}: expected a list of ids, found {}",
                quoted(symbol),
                quoted(&ids.to_string())
            ));
        }
    }
    if let Some(streaming) = json.get("streaming").filter(|streaming| !streaming.is_boolean()) {
        problems
            .push(format!("`streaming`: expected true or false, found {}", quoted(&streaming.to_string())));
    }
    let espeak = object(json, "espeak", &mut problems);
    if let Some(voice) = espeak.and_then(|espeak| espeak.get("voice")).filter(|voice| !voice.is_string()) {
        problems.push(format!("`espeak.voice`: expected a name, found {}", quoted(&voice.to_string())));
    }
    if problems.is_empty() {
        return Check::new(
            Part::Files,
            files::CONFIG,
            Verdict::Ok,
            "fields that clients read match the graphs",
        );
    }
    Check::new(Part::Files, files::CONFIG, Verdict::Failed, joined(&problems))
}

/// Reports unusual content of the JSON that makes no known client fail as long as it is not spoken.
pub(super) fn warnings(problems: &[String]) -> Check {
    Check::new(
        Part::Files,
        format!("{}, compared with the network", files::CONFIG),
        Verdict::Warning,
        joined(problems),
    )
}

fn scales(inference: Option<&Map<String, Json>>, problems: &mut Vec<String>) {
    let Some(inference) = inference else { return };
    let mut scale = |name: &str, default: f32| match inference.get(name) {
        None | Some(Json::Null) => default,
        Some(value) => value.as_f64().map_or_else(
            || {
                problems.push(format!(
                    "`inference.{name}`: expected a number, found {}",
                    quoted(&value.to_string())
                ));
                default
            },
            |value| value as f32,
        ),
    };
    let default = Scales::default();
    let scales = Scales {
        noise: scale("noise_scale", default.noise),
        length: scale("length_scale", default.length),
        noise_w: scale("noise_w", default.noise_w),
    };
    if let Err(error) = scales.check() {
        problems.push(format!("`inference`: {error}"));
    }
}

/// The object called `key`; anything else is a problem.
fn object<'a>(
    json: &'a Map<String, Json>,
    key: &str,
    problems: &mut Vec<String>,
) -> Option<&'a Map<String, Json>> {
    match json.get(key) {
        None | Some(Json::Null) => None,
        Some(Json::Object(object)) => Some(object),
        Some(other) => {
            problems.push(format!("`{key}`: expected an object, found {}", quoted(&other.to_string())));
            None
        }
    }
}

/// Checks the number at the end of the dotted `path`, if it exists.
fn number(
    json: Option<&Map<String, Json>>,
    path: &str,
    range: RangeInclusive<u64>,
    problems: &mut Vec<String>,
) {
    let key = path.rsplit('.').next().unwrap_or(path);
    let Some(value) = json.and_then(|json| json.get(key)).filter(|value| !value.is_null()) else { return };
    if !value.as_u64().is_some_and(|number| range.contains(&number)) {
        let (least, most) = (range.start(), range.end());
        let found = quoted(&value.to_string());
        problems.push(format!("`{path}`: expected a number from {least} to {most}, found {found}"));
    }
}

fn name(file: &OnnxFile) -> String {
    file.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The start of a value from a file, escaped for a message.
fn quoted(text: &str) -> String {
    const LONGEST: usize = 40;
    let end = text.char_indices().nth(LONGEST).map(|(end, _)| end);
    format!("{:?}{}", &text[..end.unwrap_or(text.len())], if end.is_some() { "..." } else { "" })
}

fn joined(problems: &[String]) -> String {
    let more = match problems.len().saturating_sub(MOST_PROBLEMS) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    problems[..problems.len().min(MOST_PROBLEMS)].join("; ") + &more
}
