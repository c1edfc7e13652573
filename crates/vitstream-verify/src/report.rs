//! The report of a verification.

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
    /// True if no check failed.
    pub passed: bool,
    /// The utterances that were spoken, all without noise.
    pub utterances: Vec<Utterance>,
    /// All checks, in order.
    pub checks: Vec<Check>,
    /// Weights that differ from the expected ones, the worst first.
    pub weights: Vec<WeightDifference>,
    /// Duration in seconds.
    pub seconds: f64,
    /// Audio for display.
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
    /// The origin of the values compared.
    pub values: String,
}

/// The subject of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// The files themselves.
    Files,
    /// Their output.
    Speaking,
    /// Chunks compared with the whole.
    Streaming,
    /// Every constant and node, compared with a new export of the source.
    Weights,
    /// Every stage, compared with the source.
    Source,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Correct.
    Ok,
    /// Worth knowing, but not an error.
    Warning,
    /// Wrong.
    Failed,
    /// Could not be checked; the detail says why.
    NotChecked,
}

/// A single check.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// Its subject.
    pub part: Part,
    /// The stage, or the file.
    pub name: String,
    /// The largest value or difference; null in JSON when it is infinite.
    pub max: Option<f64>,
    /// The root mean square.
    pub rms: Option<f64>,
    /// The limit on the largest value.
    pub limit: Option<f64>,
    /// The unit of the three numbers.
    pub unit: &'static str,
    /// The outcome.
    pub verdict: Verdict,
    /// The position of the largest value, or a description of the problem.
    pub detail: String,
}

/// A weight that differs from the expected one.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct WeightDifference {
    /// The graph's file.
    pub file: String,
    /// The initializer.
    pub name: String,
    /// The nodes that read it.
    pub nodes: Vec<String>,
    /// Number of elements that differ; 0 if the tensors cannot be compared.
    pub differing: usize,
    /// Number of all elements.
    pub elements: usize,
    /// The largest difference, relative to the tensor's largest element; null in JSON when it is infinite.
    pub relative: f64,
    /// A description.
    pub detail: String,
}

/// Audio of the pair, and the expected audio.
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

/// Collects one stage over all utterances; the worst one counts.
pub(super) struct Tally {
    check: Check,
    all: Difference,
    worst: Option<f64>,
    problems: Vec<String>,
    missing: Option<String>,
}

impl Tally {
    /// `limit` is the limit on the largest value, if there is one.
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

    /// Adds a difference; `place` names the position of the largest value.
    pub(super) fn add(&mut self, difference: Difference, place: impl FnOnce(&Difference) -> String) {
        self.value(difference.max, || match difference.max {
            0.0 => "equal to the last bit".to_owned(),
            _ => place(&difference),
        });
        self.all = self.all.join(difference);
        self.check.rms = Some(self.all.rms());
    }

    /// Adds a value that is not a difference.
    pub(super) fn value(&mut self, value: f64, place: impl FnOnce() -> String) {
        if value.is_nan() || self.worst.is_none_or(|worst| value > worst) {
            self.worst = Some(value);
            self.check.detail = place();
        }
    }

    /// Records a failure that has no number.
    pub(super) fn fail(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Records why the stage could not be checked.
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

/// A check that could not be made, for the reason `why`.
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
