//! What actions need by name: servers and providers of other sections, programs of the settings.

use super::Topology;
use super::read::{Fields, Report, did_you_mean, list};
use super::source::read_sources;
use super::yaml::shorten;
use crate::action::{read_providers, read_servers};
use crate::function::read_functions;
use crate::jq::with_deep_stack;

/// Longest name of what the engine keeps by name. Bytes.
const NAME_MAX_BYTES: usize = 200;

/// Something that an action needs and that is named elsewhere: in another section, or in the settings.
#[derive(Debug, Clone)]
pub(crate) struct Used {
    /// What kind of thing.
    pub(crate) kind: UsedKind,
    /// Nothing: the only one.
    pub(crate) name: Option<Box<str>>,
    pub(crate) line: usize,
    pub(crate) path: String,
}

/// See [`Used`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UsedKind {
    /// A server of the section `mail`.
    Mail,
    /// A provider that does what this key says.
    Provider(&'static str),
    /// A function of the section `functions`.
    Function,
    /// A program that the settings allow.
    Program,
}

impl Used {
    /// A mail server.
    pub(crate) fn mail(name: Option<&str>, line: usize, path: &str) -> Self {
        Self { kind: UsedKind::Mail, name: name.map(Into::into), line, path: path.to_owned() }
    }

    /// A provider of `sms` or `voice`.
    pub(crate) fn provider(means: &'static str, name: Option<&str>, line: usize, path: &str) -> Self {
        let kind = UsedKind::Provider(means);
        Self { kind, name: name.map(Into::into), line, path: path.to_owned() }
    }

    /// A function.
    pub(crate) fn function(name: &str, line: usize, path: &str) -> Self {
        Self { kind: UsedKind::Function, name: Some(name.into()), line, path: path.to_owned() }
    }

    /// A program.
    pub(crate) fn program(name: &str, line: usize, path: &str) -> Self {
        Self { kind: UsedKind::Program, name: Some(name.into()), line, path: path.to_owned() }
    }
}

impl Topology {
    /// Programs that its rules run, each with line and path.
    pub(crate) fn programs(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        let programs = self.used.iter().filter(|used| used.kind == UsedKind::Program);
        programs.filter_map(|used| Some((used.line, used.path.as_str(), used.name.as_deref()?)))
    }

    /// Reads the sections `sources`, `mail`, `providers` and `functions`.
    pub(super) fn read_services(&mut self, fields: &Fields<'_>, report: &mut Report) {
        if let Some(node) = fields.get("sources") {
            self.sources = with_deep_stack(|| read_sources(node, report));
        }
        if let Some(node) = fields.get("mail") {
            self.mail = read_servers(node, report);
        }
        if let Some(node) = fields.get("providers") {
            self.providers = with_deep_stack(|| read_providers(node, report));
        }
        if let Some(node) = fields.get("functions") {
            self.functions = read_functions(node, report);
        }
    }

    /// Whether what actions name is there, or is the only one where they name nothing.
    pub(super) fn check_used(&mut self, report: &mut Report) {
        self.used = std::mem::take(&mut report.used);
        for used in &self.used {
            let (section, known): (_, Vec<&str>) = match used.kind {
                UsedKind::Mail => ("mail", self.mail.iter().map(|it| &*it.name).collect()),
                UsedKind::Provider(means) => {
                    let able = self.providers.iter().filter(|it| it.does(means));
                    ("providers", able.map(|it| &*it.name).collect())
                }
                UsedKind::Function => ("functions", self.functions.iter().map(|it| &*it.name).collect()),
                UsedKind::Program => continue,
            };
            let expected = match known.as_slice() {
                [] => format!("one of the section '{section}', which has none that could do it"),
                known => list(known),
            };
            let found = match &used.name {
                Some(name) if known.contains(&&**name) => continue,
                Some(name) => format!("found '{name}', expected {expected}{}", did_you_mean(name, known)),
                None if known.len() == 1 => continue,
                None => format!("found no name, expected {expected}"),
            };
            report.add(used.line, &used.path, found);
        }
    }
}

/// Whether a name has letters, digits, '.', '_' and '-' alone; anything else is reported.
pub(crate) fn plain_name(name: &str, line: usize, path: &str, report: &mut Report) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let fits = plain && (1..=NAME_MAX_BYTES).contains(&name.len());
    if !fits {
        let found = shorten(name);
        let expected = format!("letters, digits, '.', '_' and '-', at most {NAME_MAX_BYTES}");
        report.add(line, path, format!("found the name '{found}', expected {expected}"));
    }
    fits
}
