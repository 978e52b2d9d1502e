//! The text that Prometheus reads (0.0.4).

use super::families::{Counted, Metric, Of, Single};
use millpond_broker::Figures;
use std::fmt::Write;

/// What is written, and of what.
pub(super) struct Page {
    out: String,
    prefix: &'static str,
    /// Only these families; empty: all.
    families: Vec<String>,
}

impl Page {
    pub(super) fn new(prefix: &'static str, families: Vec<String>) -> Self {
        Self { out: String::new(), prefix, families }
    }

    pub(super) fn text(self) -> String {
        self.out
    }

    /// Whether any of these is to be written.
    pub(super) fn wants<T>(&self, metrics: &[Metric<T>]) -> bool {
        metrics.iter().any(|metric| self.wants_family(metric.family))
    }

    pub(super) fn wants_family(&self, family: &str) -> bool {
        self.families.is_empty() || self.families.iter().any(|it| it == family)
    }

    fn head(&mut self, name: &str, help: &str, is_counter: bool) -> String {
        let name = match name.starts_with("millpond_") {
            true => name.to_owned(),
            false => format!("{}{name}", self.prefix),
        };
        let kind = if is_counter { "counter" } else { "gauge" };
        // Writing to a text does not fail.
        let _ = writeln!(self.out, "# TYPE {name} {kind}\n# HELP {name} {help}");
        name
    }

    fn line(&mut self, name: &str, labels: &str, value: u64) {
        let _ = match labels.is_empty() {
            true => writeln!(self.out, "{name} {value}"),
            false => writeln!(self.out, "{name}{{{labels}}} {value}"),
        };
    }

    /// Each thing with its labels.
    pub(super) fn each<T: Counted>(&mut self, metrics: &[Metric<T>], things: &[(String, T)]) {
        for metric in metrics {
            if !self.wants_family(metric.family) {
                continue;
            }
            let name = self.head(metric.name, metric.help, matches!(metric.of, Of::Counts(_)));
            for (labels, thing) in things {
                let value = match &metric.of {
                    Of::Level(level) => level(thing),
                    // What was never used has no counts, and is no line.
                    Of::Counts(counts) => match thing.figures() {
                        Some(figures) => counts.iter().map(|count| figures.get(*count)).sum(),
                        None => continue,
                    },
                };
                self.line(&name, labels, value);
            }
        }
    }

    /// The sums: of levels over the things that there are, of counts over all that ever were.
    pub(super) fn sums<T>(&mut self, metrics: &[Metric<T>], things: &[T], node: &Figures) {
        for metric in metrics {
            let name = self.head(metric.name, metric.help, matches!(metric.of, Of::Counts(_)));
            let value = match &metric.of {
                Of::Level(level) => things.iter().map(level).sum(),
                Of::Counts(counts) => counts.iter().map(|count| node.get(*count)).sum(),
            };
            self.line(&name, "", value);
        }
    }

    /// Metrics of the node.
    pub(super) fn singles(&mut self, singles: Vec<Single>) {
        for single in singles {
            if self.wants_family(single.family) {
                self.one(single.name, single.help, single.is_counter, &single.labels, single.value);
            }
        }
    }

    /// A metric of one value.
    pub(super) fn one(&mut self, name: &str, help: &str, is_counter: bool, labels: &str, value: u64) {
        let name = self.head(name, help, is_counter);
        self.line(&name, labels, value);
    }

    /// A metric of several lines.
    pub(super) fn lines(&mut self, name: &str, help: &str, lines: impl Iterator<Item = (String, u64)>) {
        self.lines_of(name, help, false, lines);
    }

    /// As [`Self::lines`], of a metric that may only grow.
    pub(super) fn lines_of(
        &mut self,
        name: &str,
        help: &str,
        is_counter: bool,
        lines: impl Iterator<Item = (String, u64)>,
    ) {
        let name = self.head(name, help, is_counter);
        lines.for_each(|(labels, value)| self.line(&name, &labels, value));
    }
}

/// The value of a label.
pub(super) fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
