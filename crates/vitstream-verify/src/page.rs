//! The report as a self-contained page.
//!
//! Strings from files (names of weights, metadata, paths) may contain anything: everything is inserted
//! through maud, which escapes it, and the page's policy forbids scripts and external resources.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use vitstream_synth::wav;

use super::limits;
use super::picture::{self, WAVE_HEIGHT, WIDTH};
use super::report::{Check, Part, Report, Sound, Verdict};
use super::spectrum::FLOOR;
use super::table::{number, title, verdict};

/// Audio for listening is cut after this many seconds.
const MOST_SECONDS: usize = 20;
/// Limit on the weights that are listed.
const MOST_WEIGHTS: usize = 200;
/// Limit on the ids shown without unfolding.
const MOST_IDS: usize = 40;
/// Limit on the nodes that are listed for each weight.
const MOST_NODES: usize = 4;

const PARTS: [Part; 5] = [Part::Files, Part::Speaking, Part::Streaming, Part::Weights, Part::Source];

const STYLE: &str = "
:root { color-scheme: light; --ink: #1c2430; --faint: #667085; --line: #e2e6ec; --good: #12753f; --bad: #b42318; --warn: #8a5a00; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f8; color: var(--ink); font: 15px/1.5 system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 24px 64px; }
h1 { font-size: 24px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 10px; }
h3 { font-size: 15px; margin: 0 0 10px; }
p { margin: 6px 0; }
code, .ids { font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: 13px; overflow-wrap: anywhere; }
.faint { color: var(--faint); }
.badge { display: inline-block; padding: 5px 14px; border-radius: 999px; font-weight: 600; color: #fff; background: var(--good); }
.badge.failed { background: var(--bad); }
.card { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; margin: 12px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--faint); border-bottom: 1px solid var(--line); padding: 6px 10px; }
td { border-bottom: 1px solid var(--line); padding: 6px 10px; vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th.n, td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.name, td.verdict { white-space: nowrap; } td.weight { min-width: 270px; }
td.detail { color: var(--faint); overflow-wrap: anywhere; min-width: 220px; }
tr.group td { background: #f0f2f5; font-weight: 600; }
tr.failed td.detail { color: var(--bad); }
.ok { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 700; } .open { color: var(--faint); } .warning { color: var(--warn); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
.sound { display: grid; grid-template-columns: 150px 1fr; gap: 4px 16px; align-items: center; }
.sound .label { font-size: 13px; } .sound .label b { display: block; }
.sound svg, .sound img { display: block; width: 100%; border: 1px solid var(--line); border-radius: 4px; }
.sound svg { height: 90px; background: #fbfcfd; } .sound img { height: 128px; }
.sound audio { width: 100%; height: 32px; margin-top: 6px; }
.axis { display: flex; justify-content: space-between; font-size: 12px; color: var(--faint); }
.legend { display: flex; align-items: center; gap: 8px; font-size: 12px; color: var(--faint); margin: 6px 0; }
.legend img { width: 200px; height: 10px; image-rendering: pixelated; border-radius: 2px; }
summary { cursor: pointer; color: var(--faint); }
@media (max-width: 640px) {
main { padding: 16px 12px 40px; } .card { padding: 12px; }
.sound, dl { grid-template-columns: minmax(0, 1fr); } dl { gap: 0; } dd { margin-bottom: 10px; }
thead { display: none; } table, tbody, tr.group td { display: block; }
tr { display: flex; flex-wrap: wrap; gap: 0 14px; border-bottom: 1px solid var(--line); padding: 7px 0; }
tr.group { padding: 0; } tr.group td { flex: 1; padding: 6px 10px; }
td, td.detail, td.weight { border: 0; padding: 0; min-width: 0; overflow-wrap: anywhere; }
td.name, td.weight { flex: 1 1 calc(100% - 98px); white-space: normal; }
td.verdict { flex: none; width: 84px; order: 1; text-align: right; }
td.n { order: 2; font-size: 13px; } td.n::before { content: attr(data-label) ' '; color: var(--faint); }
td.detail { order: 3; flex: 1 0 100%; } td:empty { display: none; }
}
";

impl Report {
    /// A self-contained HTML page: the utterances, every check, the damaged weights, and waveforms and
    /// spectrograms of the pair's audio, the expected audio, and their difference.
    pub fn page(&self) -> String {
        let heading = format!(
            "{} {}",
            if self.passed { "Verified:" } else { "Verification failed:" },
            self.pair.display()
        );
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta http-equiv="Content-Security-Policy"
                        content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:";
                    title { (heading) }
                    style { (PreEscaped(STYLE)) }
                }
                body { main {
                    h1 { (self.pair.display()) }
                    p { span.badge.failed[!self.passed] { (self.summary()) } }
                    (self.what_was_run())
                    @if !self.weights.is_empty() { (self.damaged()) }
                    h2 { "Checks" }
                    div.card.scroll { (self.checks_table()) }
                    @if !self.sounds.is_empty() {
                        h2 { "Audio" }
                        p.faint { "Waveforms in a row have the same height scale, except for the difference, which is enlarged as stated. "
                            "Spectrograms range from 0 Hz at the bottom to half the sample rate at the top." }
                        div.legend {
                            (format!("{FLOOR:.0} dB"))
                            @if let Some(uri) = picture::legend_uri() { img src=(uri) alt="colours from quiet to loud"; }
                            "full scale"
                        }
                        @for sound in longest_first(&self.sounds) { (sound_card(sound)) }
                    }
                    (definitions())
                } }
            }
        };
        page.into_string()
    }

    fn what_was_run(&self) -> Markup {
        html! {
            div.card { dl {
                @if let Some(against) = &self.against {
                    dt { "Against" } dd { (against.path.display()) " (" (against.format) ")" }
                    dt { "Compared with" } dd { (against.values) }
                }
                dt { "Runtime" } dd { (self.runtime) ", noise_scale 0, length_scale 1, noise_w 0" }
                dt { "Verified by" } dd { "vitstream " (self.vitstream_version) " in " (format!("{:.1} s", self.seconds)) }
                dt { "Spoken" } dd {
                    @for utterance in &self.utterances {
                        div {
                            (utterance) span.faint { " (" (utterance.ids.len()) " ids) " }
                            @if utterance.ids.len() > MOST_IDS {
                                details { summary { "ids" } (ids(&utterance.ids)) }
                            } @else {
                                (ids(&utterance.ids))
                            }
                        }
                    }
                }
            } }
        }
    }

    fn damaged(&self) -> Markup {
        html! {
            h2 { "Damaged weights" }
            div.card.scroll { table {
                thead { tr { th { "File" } th { "Weight" } th.n { "Differ" } th.n { "Relative" } th { "Where" } } }
                tbody {
                    @for weight in self.weights.iter().take(MOST_WEIGHTS) {
                        tr.failed {
                            td.name { (weight.file) }
                            td.weight { code { (weight.name) } }
                            td.n data-label="Differ" { (weight.differing) " / " (weight.elements) }
                            td.n data-label="Relative" { (number(Some(weight.relative))) }
                            td.detail {
                                (weight.detail)
                                @if !weight.nodes.is_empty() { br; "read by "
                                    code { (weight.nodes.iter().take(MOST_NODES).cloned().collect::<Vec<_>>().join(", ")) }
                                    @if weight.nodes.len() > MOST_NODES { " and " (weight.nodes.len() - MOST_NODES) " more" }
                                 }
                            }
                        }
                    }
                    @if self.weights.len() > MOST_WEIGHTS {
                        tr { td colspan="5" { "and " (self.weights.len() - MOST_WEIGHTS) " more" } }
                    }
                }
            } }
        }
    }

    fn checks_table(&self) -> Markup {
        html! {
            table {
                thead { tr {
                    th { "Stage" } th.n { "Largest" } th.n { "RMS" } th.n { "Limit" } th { "Verdict" } th { "Where" }
                } }
                tbody {
                    @for part in PARTS {
                        @if self.part(part).next().is_some() {
                            tr.group { td colspan="6" { (title(part)) } }
                            @for check in self.part(part) { (row(check)) }
                        }
                    }
                }
            }
        }
    }
}

fn ids(ids: &[i64]) -> Markup {
    html! { span.ids { (ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")) } }
}

/// The audio most worth looking at comes first.
fn longest_first(sounds: &[Sound]) -> Vec<&Sound> {
    let mut sorted: Vec<&Sound> = sounds.iter().collect();
    sorted.sort_by_key(|sound| std::cmp::Reverse(sound.found.len()));
    sorted
}

fn row(check: &Check) -> Markup {
    let class = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed => "bad",
        Verdict::NotChecked => "open",
    };
    html! {
        tr.failed[check.verdict == Verdict::Failed] {
            td.name { (check.name) }
            td.n data-label="Largest" { (number(check.max)) }
            td.n data-label="RMS" { (number(check.rms)) }
            td.n data-label="Limit" { (number(check.limit)) @if !check.unit.is_empty() && check.limit.is_some() { " " (check.unit) } }
            td.verdict { span class=(class) { (verdict(check.verdict)) } }
            td.detail { (check.detail) }
        }
    }
}

fn sound_card(sound: &Sound) -> Markup {
    let length = sound.found.len().min(sound.expected.len());
    let difference: Vec<f32> =
        sound.found[..length].iter().zip(&sound.expected).map(|(a, b)| a - b).collect();
    let peak = |samples: &[f32]| {
        samples.iter().copied().filter(|v| v.is_finite()).fold(0.0f32, |largest, v| largest.max(v.abs()))
    };
    // Never zero, because the scale is a divisor.
    let scale = peak(&sound.found).max(peak(&sound.expected)).max(1e-9);
    let own = peak(&difference);
    let enlarged = if own > 0.0 { scale / own } else { 1.0 };
    let note = if own > 0.0 {
        format!(
            "largest {}, enlarged {} times",
            number(Some(f64::from(own))),
            number(Some(f64::from(enlarged).max(1.0).round()))
        )
    } else {
        "none at all".to_owned()
    };
    let rows = [
        ("Pair", sound.found_is.clone(), &sound.found[..], scale, "#2456b8"),
        ("Expected", sound.expected_is.clone(), &sound.expected[..], scale, "#12753f"),
        ("Difference", note, &difference[..], own.min(scale).max(1e-30), "#b42318"),
    ];
    let seconds = length as f64 / f64::from(sound.sample_rate);
    html! {
        div.card {
            h3 { (sound.title) }
            div.sound {
                @for (label, of, samples, scale, colour) in &rows {
                    div.label { b { (label) } span.faint { (of) } }
                    div {
                        svg viewBox=(format!("0 0 {WIDTH} {WAVE_HEIGHT}")) preserveAspectRatio="none" role="img"
                            aria-label=(format!("waveform: {label}")) {
                            line x1="0" y1=(WAVE_HEIGHT / 2) x2=(WIDTH) y2=(WAVE_HEIGHT / 2) stroke="#d5dae1" stroke-width="0.5" {}
                            path d=(picture::outline(samples, *scale)) fill=(colour) {}
                        }
                    }
                    div.label { span.faint { "spectrogram" } }
                    div {
                        @match picture::spectrogram_uri(samples) {
                            Some(uri) => { img src=(uri) alt=(format!("spectrogram: {label}")); }
                            None => { span.faint { "no samples" } }
                        }
                        @if *label != "Difference" && !samples.is_empty() {
                            audio controls preload="none" src=(listen(samples, sound.sample_rate)) {}
                        }
                    }
                }
                div {}
                div.axis { span { "0 s" } span { (format!("{:.2} s", seconds / 2.0)) } span { (format!("{seconds:.2} s")) } }
            }
        }
    }
}

/// A WAV of the first [`MOST_SECONDS`].
fn listen(samples: &[f32], sample_rate: u32) -> String {
    let most = MOST_SECONDS.saturating_mul(sample_rate as usize);
    let samples = &samples[..samples.len().min(most)];
    let mut bytes = wav::header(sample_rate, Some(samples.len() as u64)).to_vec();
    bytes.extend(wav::s16le(samples));
    picture::uri("audio/wav", &bytes)
}

fn definitions() -> Markup {
    html! {
        h2 { "What the figures mean" }
        div.card {
            p { "Largest: the largest absolute value; in comparisons, the largest absolute difference. RMS: the root of the mean "
                "squared difference over all utterances. rel: relative to the largest expected value of the utterance if that "
                "is larger than 1; for weights, relative to the largest element of the tensor. The full scale of audio is 1." }
            p { "Spectral distance: log-spectral distance in dB. Hann windows of 1024 samples every 256; levels are 10 log10 of the "
                "power relative to a full-scale sine, not below " (format!("{FLOOR:.0} dB")) "; at each window the root of the mean "
                "over all bins of the squared difference of the levels, then the mean over the windows." }
            p { "Decoder alone: fed with the source's own z_p, so that a damaged encoder is not blamed on it. Both: the "
                "pair's decoder after the pair's encoder, which is the audible result." }
            p { "Audio may differ by " (number(Some(limits::AUDIO))) " (-80 dB): one and the same graph of a real voice with and "
                "without its runtime's optimiser differs by 2.5e-5." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Against, WeightDifference};
    use crate::utterance::Utterance;

    fn report() -> Report {
        let evil = "<script>alert('x')</script>\"&";
        Report {
            pair: format!("/tmp/{evil}").into(),
            against: Some(Against { path: evil.into(), format: evil.to_owned(), values: evil.to_owned() }),
            runtime: "rten".to_owned(),
            vitstream_version: "0",
            passed: false,
            utterances: vec![Utterance { name: evil.to_owned(), ids: vec![1, 2], speaker: Some(0) }],
            checks: vec![Check::new(Part::Files, evil, Verdict::Failed, evil)],
            weights: vec![WeightDifference {
                file: evil.to_owned(),
                name: evil.to_owned(),
                nodes: vec![evil.to_owned()],
                differing: 1,
                elements: 2,
                relative: f64::INFINITY,
                detail: evil.to_owned(),
            }],
            seconds: 1.0,
            sounds: vec![Sound {
                title: evil.to_owned(),
                sample_rate: 8000,
                found: vec![0.5; 3000],
                found_is: evil.to_owned(),
                expected: vec![0.25, f32::NAN],
                expected_is: evil.to_owned(),
            }],
        }
    }

    #[test]
    fn nothing_of_a_file_becomes_markup() {
        let page = report().page();
        assert!(!page.contains("<script"), "{page}");
        assert!(page.matches("&lt;script&gt;").count() >= 12);
        // A quote would end an attribute.
        assert!(!page.contains("'x')</script>\""));
    }

    /// On a phone, a row of a table becomes a card, and its figures lose the table's heading.
    #[test]
    fn every_figure_of_a_table_says_what_it_is() {
        let page = report().page();
        assert!(page.contains("name=\"viewport\"") && page.contains("@media (max-width: 640px)"));
        let figures = page.matches("<td class=\"n\"").count();
        assert!(figures >= 5);
        assert_eq!(page.matches("<td class=\"n\" data-label=\"").count(), figures);
    }

    #[test]
    fn the_page_refers_to_nothing_outside() {
        let page = report().page();
        for outside in ["http://", "https://", "//cdn", "url(", "@import", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for reference in page.split("src=\"").skip(1) {
            assert!(reference.starts_with("data:"), "{}", &reference[..40]);
        }
    }
}
