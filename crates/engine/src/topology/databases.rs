//! Whether the databases that rules and sources name are there.

use super::read::{Report, did_you_mean};
use super::{Topology, shorten};

impl Topology {
    /// Whether the databases that rules and sources use are in the file.
    pub(super) fn check_databases(&self, report: &mut Report) {
        let line_of = |place: &str| place.rsplit(':').next().and_then(|line| line.parse().ok()).unwrap_or(1);
        for rule in &self.rules {
            for (place, name) in rule.all_actions().filter_map(|action| action.database()) {
                self.check_database(name, None, line_of(place), &format!("rules.{}.do", rule.name), report);
            }
        }
        for source in &self.sources {
            let Some((product, name)) = source.database() else { continue };
            let path = format!("sources.{}.{product}.database", source.name);
            self.check_database(name, Some(product), line_of(&source.place), &path, report);
        }
    }

    fn check_database(
        &self,
        name: &str,
        product: Option<&str>,
        line: usize,
        path: &str,
        report: &mut Report,
    ) {
        let shown = shorten(name);
        match (self.databases.iter().find(|database| database.name == name), product) {
            (None, _) => {
                let guess = did_you_mean(name, self.databases.iter().map(|it| it.name.as_str()));
                let text =
                    format!("found database '{shown}', expected one of the section 'databases'{guess}");
                report.add(line, path, text);
            }
            (Some(found), Some(product)) if found.product() != product => {
                let text =
                    format!("found '{shown}', a {} database, expected a {product} one", found.product());
                report.add(line, path, text);
            }
            _ => {}
        }
    }
}
