//! The report as text.

use std::fmt::Write as _;

use super::report::{Check, Part, Report, Verdict};

/// Limit on the weights that are listed.
const MOST_WEIGHTS: usize = 10;
/// Limit on the ids of an utterance that are shown.
const MOST_IDS: usize = 24;

impl Report {
    /// A table for people: every check with its figures, then the damaged weights and the verdict.
    pub fn table(&self) -> String {
        let mut text = format!("verifying {}", self.pair.display());
        if let Some(against) = &self.against {
            let _ =
                write!(text, "\nagainst {} ({}): {}", against.path.display(), against.format, against.values);
        }
        let _ = writeln!(text, "\nin {}, without noise; spoken:", self.runtime);
        for utterance in &self.utterances {
            let ids: Vec<String> = utterance.ids.iter().take(MOST_IDS).map(ToString::to_string).collect();
            let more = if utterance.ids.len() > MOST_IDS { ",..." } else { "" };
            let _ = writeln!(text, "  {utterance}: {} ids: {}{more}", utterance.ids.len(), ids.join(","));
        }
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        let _ = writeln!(text, "\n{:width$}   {:>8}  {:>8}  {:>8}", "", "largest", "rms", "limit");
        let mut part = None;
        for check in &self.checks {
            if part != Some(check.part) {
                let _ = writeln!(text, "{}", title(check.part));
                part = Some(check.part);
            }
            let _ = writeln!(
                text,
                "  {:width$} {:>8}  {:>8}  {:>8} {:6} {:10}  {}",
                check.name,
                number(check.max),
                number(check.rms),
                number(check.limit),
                check.unit,
                verdict(check.verdict),
                check.detail
            );
        }
        if !self.weights.is_empty() {
            let _ = writeln!(text, "\ndamaged weights");
        }
        for weight in self.weights.iter().take(MOST_WEIGHTS) {
            let _ = writeln!(text, "  {}: {}: {}", weight.file, weight.name, weight.detail);
            if let Some(node) = weight.nodes.first() {
                let _ = writeln!(text, "    read by {node}");
            }
        }
        if self.weights.len() > MOST_WEIGHTS {
            let _ = writeln!(text, "  and {} more", self.weights.len() - MOST_WEIGHTS);
        }
        let _ = writeln!(text, "\n{} ({:.1} s)", self.summary(), self.seconds);
        text
    }

    /// The verdict in one line.
    pub fn summary(&self) -> String {
        let count = |verdict| self.checks.iter().filter(|check| check.verdict == verdict).count();
        let some = |count: usize, what: &str| match count {
            0 => String::new(),
            n => format!(", {n} {what}"),
        };
        let warned = match count(Verdict::Warning) {
            1 => some(1, "warning"),
            n => some(n, "warnings"),
        };
        let open = warned + &some(count(Verdict::NotChecked), "not checked");
        match self.passed {
            true => format!("passed: {} checks are ok{open}", count(Verdict::Ok)),
            false => format!("FAILED: {} of {} checks{open}", count(Verdict::Failed), self.checks.len()),
        }
    }

    /// The checks of `part`.
    pub(super) fn part(&self, part: Part) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.part == part)
    }
}

pub(super) fn title(part: Part) -> &'static str {
    match part {
        Part::Files => "files",
        Part::Speaking => "speaking",
        Part::Streaming => "streamed, compared with the whole",
        Part::Weights => "compared with a new export of the source",
        Part::Source => "stages, compared with the source",
    }
}

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed => "FAILED",
        Verdict::NotChecked => "not checked",
    }
}

/// Three digits, as short as possible.
pub(super) fn number(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(0.0) => "0".to_owned(),
        Some(value) if !value.is_finite() => "infinite".to_owned(),
        Some(value) if (0.001..10_000.0).contains(&value.abs()) => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Some(value) => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1.5e-6, "1.5e-6"),
            (0.25, "0.25"),
            (12.0, "12"),
            (123_456.0, "1.2e5"),
            (f64::INFINITY, "infinite"),
        ] {
            assert_eq!(number(Some(value)), text);
        }
    }
}
