//! What a topology defines for the engine itself, by name: rules, sources and what they need.

use crate::action::{MailServer, Provider};
use crate::function::FunctionSpec;
use crate::topology::{Node, Rule, SourceSpec, Topology};

/// Something that stands in a file under a name.
pub(super) struct Defined<'a> {
    pub(super) name: &'a str,
    pub(super) place: String,
    pub(super) definition: &'a Node,
}

impl Topology {
    pub(super) fn mail_servers(&self) -> Vec<Defined<'_>> {
        let servers = self.mail.iter();
        let place = |it: &MailServer| format!("{}: mail.{}", it.place, it.name);
        servers.map(|it| Defined { name: &it.name, place: place(it), definition: &it.definition }).collect()
    }

    pub(super) fn providers(&self) -> Vec<Defined<'_>> {
        let providers = self.providers.iter();
        let place = |it: &Provider| format!("{}: providers.{}", it.place, it.name);
        providers.map(|it| Defined { name: &it.name, place: place(it), definition: &it.definition }).collect()
    }

    pub(super) fn functions(&self) -> Vec<Defined<'_>> {
        let place = |it: &FunctionSpec| format!("{}: functions.{}", it.place, it.name);
        self.functions
            .iter()
            .map(|it| Defined { name: &it.name, place: place(it), definition: &it.definition })
            .collect()
    }

    pub(super) fn sources(&self) -> Vec<Defined<'_>> {
        let place = |it: &'_ SourceSpec| format!("{}: sources.{}", it.place, it.name);
        self.sources
            .iter()
            .map(|it| Defined { name: &it.name, place: place(it), definition: &it.definition })
            .collect()
    }

    pub(super) fn rules(&self) -> Vec<Defined<'_>> {
        let defined = |rule: &'_ Rule| format!("{}: rules.{}", rule.place, rule.name);
        self.rules
            .iter()
            .map(|it| Defined { name: &it.name, place: defined(it), definition: &it.definition })
            .collect()
    }
}

/// The databases of a file.
pub(super) fn databases(topology: &Topology) -> Vec<Defined<'_>> {
    let place = |name: &str, place: &str| format!("{place}: databases.{name}");
    let specs = topology.databases.iter();
    specs
        .map(|it| Defined { name: &it.name, place: place(&it.name, &it.place), definition: &it.definition })
        .collect()
}
