//! What a verification found.

use std::path::PathBuf;

use serde::Serialize;

use super::compare::Difference;
use super::utterance::Utterance;

/// The result of a verification.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The folder.
    pub pair: PathBuf,
    /// The source it was compared with.
    pub against: Option<Against>,
    /// The runtime that computed.
    pub runtime: String,
    /// This program's version.
    pub vitstream_version: &'static str,
    /// Whether no check failed.
    pub passed: bool,
    /// The utterances that were spoken, all without noise.
    pub utterances: Vec<Utterance>,
    /// Everything that was looked at, in order.
    pub checks: Vec<Check>,
    /// Weights that are not what they should be, the worst first.
    pub weights: Vec<WeightDifference>,
    /// Time it took, in seconds.
    pub seconds: f64,
    /// Audio to be shown.
    #[serde(skip)]
    pub(super) sounds: Vec<Sound>,
}

/// The source that a pair was compared with.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Against {
    /// The file or folder.
    pub path: PathBuf,
    /// Its format.
    pub format: String,
    /// Where the values come from that were compared.
    pub values: String,
}

/// The subject of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// The files as they lie there.
    Files,
    /// Their output.
    Speaking,
    /// Chunks against the whole.
    Streaming,
    /// Every constant and node against a new export of the source.
    Weights,
    /// Every stage against the source.
    Source,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Worth knowing, but no mistake.
    Warning,
    /// Not as it should be.
    Failed,
    /// Could not be looked at; the detail says why.
    NotChecked,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// Its subject.
    pub part: Part,
    /// The stage, or the file.
    pub name: String,
    /// The largest value or difference; null in JSON when it is infinite.
    pub max: Option<f64>,
    /// The root of the mean of the squares.
    pub rms: Option<f64>,
    /// The limit of the largest.
    pub limit: Option<f64>,
    /// Of the three.
    pub unit: &'static str,
    /// The outcome.
    pub verdict: Verdict,
    /// Where the largest stands, or what is wrong.
    pub detail: String,
}

/// A weight that is not what it should be.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct WeightDifference {
    /// The graph's file.
    pub file: String,
    /// The initializer.
    pub name: String,
    /// The nodes that read it.
    pub nodes: Vec<String>,
    /// How many elements differ, and of how many; 0 when the tensors cannot be compared.
    pub differing: usize,
    /// Of how many.
    pub elements: usize,
    /// The largest difference, relative to the tensor's largest element; null in JSON when it is infinite.
    pub relative: f64,
    /// In words.
    pub detail: String,
}

/// Audio of the pair, and what it should be.
#[derive(Clone, Debug)]
pub(super) struct Sound {
    pub(super) title: String,
    pub(super) sample_rate: u32,
    pub(super) found: Vec<f32>,
    pub(super) found_is: String,
    pub(super) expected: Vec<f32>,
    pub(super) expected_is: String,
}

impl Check {
    pub(super) fn new(
        part: Part,
        name: impl Into<String>,
        verdict: Verdict,
        detail: impl Into<String>,
    ) -> Self {
        let (name, detail) = (name.into(), detail.into());
        Self { part, name, max: None, rms: None, limit: None, unit: "", verdict, detail }
    }
}

/// One stage over all utterances: the worst of them counts.
pub(super) struct Tally {
    check: Check,
    all: Difference,
    worst: Option<f64>,
    problems: Vec<String>,
    missing: Option<String>,
}

impl Tally {
    /// `limit` is what the largest value may be, if there is such a limit.
    pub(super) fn new(part: Part, name: impl Into<String>, limit: Option<f64>, unit: &'static str) -> Self {
        let check = Check::new(part, name, Verdict::NotChecked, "");
        Self {
            check: Check { limit, unit, ..check },
            all: Difference::default(),
            worst: None,
            problems: Vec::new(),
            missing: None,
        }
    }

    /// Counts a difference; `place` says where the largest stands.
    pub(super) fn add(&mut self, difference: Difference, place: impl FnOnce(&Difference) -> String) {
        self.value(difference.max, || match difference.max {
            0.0 => "the same to the last bit".to_owned(),
            _ => place(&difference),
        });
        self.all = self.all.join(difference);
        self.check.rms = Some(self.all.rms());
    }

    /// Counts a value that is no difference.
    pub(super) fn value(&mut self, value: f64, place: impl FnOnce() -> String) {
        if value.is_nan() || self.worst.is_none_or(|worst| value > worst) {
            self.worst = Some(value);
            self.check.detail = place();
        }
    }

    /// Something that cannot be put in numbers.
    pub(super) fn fail(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Why there is nothing to look at.
    pub(super) fn missing(&mut self, why: impl Into<String>) {
        self.missing.get_or_insert(why.into());
    }

    pub(super) fn finish(self) -> Check {
        let mut check = self.check;
        check.max = self.worst;
        let within = match (self.worst, check.limit) {
            (Some(worst), Some(limit)) => worst <= limit,
            _ => true,
        };
        check.verdict = match self.worst {
            _ if !self.problems.is_empty() || !within => Verdict::Failed,
            None => Verdict::NotChecked,
            Some(_) => Verdict::Ok,
        };
        if let Some(first) = self.problems.first() {
            check.detail = first.clone();
            if self.problems.len() > 1 {
                check.detail += &format!(" (and {} more)", self.problems.len() - 1);
            }
        } else if self.worst.is_none() {
            check.detail = self.missing.unwrap_or_else(|| "nothing to compare".to_owned());
        } else if let Some(why) = self.missing {
            check.detail += &format!("; not everywhere: {why}");
        }
        check
    }
}

/// What `why` says of something that could not be looked at.
pub(super) fn not_checked(part: Part, name: impl Into<String>, why: impl Into<String>) -> Check {
    Check::new(part, name, Verdict::NotChecked, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts() {
        let tally = |values: &[f64]| {
            let mut tally = Tally::new(Part::Source, "audio", Some(1.0), "");
            for (at, &value) in values.iter().enumerate() {
                tally.value(value, || format!("at {at}"));
            }
            tally
        };
        let check = tally(&[0.5, 1.0, 0.2]).finish();
        assert_eq!((check.verdict, check.max, &*check.detail), (Verdict::Ok, Some(1.0), "at 1"));
        for bad in [1.1, f64::INFINITY, f64::NAN] {
            assert_eq!(tally(&[0.5, bad]).finish().verdict, Verdict::Failed, "{bad}");
        }
        let mut failed = tally(&[0.1]);
        failed.fail("first");
        failed.fail("second");
        let check = failed.finish();
        assert_eq!((check.verdict, &*check.detail), (Verdict::Failed, "first (and 1 more)"));
        let mut missing = tally(&[]);
        missing.missing("no such stage");
        let check = missing.finish();
        assert_eq!((check.verdict, &*check.detail), (Verdict::NotChecked, "no such stage"));
    }
}
