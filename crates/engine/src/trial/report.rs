//! What the tests of a file gave.

use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// Why tests could not be run.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// There is none of that name.
    #[error("no test '{test}' in the file{guess}")]
    Missing {
        /// As asked.
        test: String,
        /// `; did you mean 'x'?`, or empty.
        guess: String,
    },
}

/// A test that was run.
#[derive(Debug, Clone)]
pub struct TestResult {
    /// Its name.
    pub name: String,
    /// `FILE:LINE`.
    pub place: String,
    /// What was missing, unexpected or wrong, each of several lines; none: it passed.
    pub failures: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// All tests that were run; as text, a line for each and what was wrong.
#[derive(Debug, Clone)]
pub struct TestReport {
    /// In the order of the file.
    pub results: Vec<TestResult>,
}

impl TestReport {
    /// Whether all passed.
    pub fn passed(&self) -> bool {
        self.failed() == 0
    }

    fn failed(&self) -> usize {
        self.results.iter().filter(|result| !result.failures.is_empty()).count()
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let tests: Vec<_> = self
            .results
            .iter()
            .map(|it| {
                json!({
                    "name": it.name,
                    "place": it.place,
                    "passed": it.failures.is_empty(),
                    "failures": it.failures,
                    "microseconds": it.took.as_micros() as u64,
                })
            })
            .collect();
        json!({"tests": tests, "failed": self.failed()})
    }

    /// As JUnit's XML, which build servers read.
    pub fn to_junit(&self) -> String {
        let mut out = format!(
            "<testsuite name=\"millpond\" tests=\"{}\" failures=\"{}\">\n",
            self.results.len(),
            self.failed()
        );
        for it in &self.results {
            let (name, place, secs) = (xml(&it.name), xml(&it.place), it.took.as_secs_f64());
            out.push_str(&format!("  <testcase name=\"{name}\" classname=\"{place}\" time=\"{secs:.6}\""));
            if it.failures.is_empty() {
                out.push_str("/>\n");
                continue;
            }
            let text = xml(&it.failures.join("\n"));
            out.push_str(&format!(
                ">\n    <failure message=\"{} wrong\">{text}</failure>\n  </testcase>\n",
                it.failures.len()
            ));
        }
        out.push_str("</testsuite>");
        out
    }
}

fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no other control characters, not even escaped.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for it in &self.results {
            match it.failures.is_empty() {
                true => writeln!(f, "ok    {}", it.name)?,
                false => writeln!(f, "FAIL  {} ({})", it.name, it.place)?,
            }
            for failure in &it.failures {
                for line in failure.lines() {
                    writeln!(f, "      {line}")?;
                }
            }
        }
        let (count, failed) = (self.results.len(), self.failed());
        let took: Duration = self.results.iter().map(|it| it.took).sum();
        let tests = if count == 1 { "test" } else { "tests" };
        write!(f, "{count} {tests}, {failed} failed, {:.1} ms", took.as_secs_f64() * 1000.0)
    }
}
