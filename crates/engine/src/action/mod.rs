//! Actions: one room a kind, which reads it from the file, fills it in from an event, shows it and does it.
//!
//! An [`Action`] is what a rule says; a [`Step`] is that with everything worked out for one event. To add a kind: a
//! module with its `read`, `fill`, `Display` and run, its name in [`KINDS`], and its arms in the dispatch below.

mod email;
mod error;
mod exec;
mod facts;
mod file;
mod fill;
mod function;
mod http;
mod log;
mod provider;
mod publish;
mod sql;

pub(crate) use email::{MailServer, read_servers};
pub(crate) use error::ActionError;
pub(crate) use facts::header_json;
pub(crate) use fill::{Context, HOPS_MAX, PlanError};
pub(crate) use http::{retry_after, with_causes};
#[cfg(feature = "wasm")]
pub(crate) use log::one_line;
pub(crate) use provider::{Provider, read_providers};
pub(crate) use publish::{PublishStep, short, show_value};

use crate::database::Databases;
use crate::engine::EngineOptions;
use crate::function::Functions;
use crate::jq::Needs;
use crate::secret::Secrets;
use crate::topology::read::Report;
use crate::topology::{Node, Topology};
use email::{EmailAction, EmailStep, Mailer};
use exec::{ExecAction, ExecStep, Programs};
use file::{FileAction, FileStep, FileWriter};
use function::{FunctionAction, FunctionStep};
use http::{HttpAction, HttpClient, HttpStep};
use log::{LogAction, LogStep};
use millpond_model::ExchangeName;
use provider::{Means, ProviderAction, ProviderStep, Providers};
use publish::PublishAction;
use serde_json::Value;
use sql::{SqlAction, SqlStep};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// The kinds, as a file names them.
pub(crate) const KINDS: [&str; 10] =
    ["publish", "http", "email", "sms", "voice", "sql", "file", "exec", "function", "log"];

/// What a rule does.
#[derive(Debug)]
pub(crate) enum Action {
    Publish(PublishAction),
    Http(HttpAction),
    File(FileAction),
    Sql(SqlAction),
    Email(EmailAction),
    Provider(ProviderAction),
    Exec(ExecAction),
    Function(FunctionAction),
    Log(LogAction),
}

/// One action with everything filled in.
#[derive(Debug)]
pub(crate) enum Step {
    Publish(PublishStep),
    Http(HttpStep),
    File(FileStep),
    Sql(SqlStep),
    Email(EmailStep),
    Provider(ProviderStep),
    Exec(ExecStep),
    Function(FunctionStep),
    Log(LogStep),
}

/// What an action on the outside gave: the answer, which later actions may look at.
pub(crate) type Answer = Result<Value, ActionError>;

/// An action on the outside that is under way.
pub(crate) type Running = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What actions on the outside work with, shared by all rules. Cloning counts references.
#[derive(Debug, Clone)]
pub(crate) struct ActionTools {
    pub(crate) http: HttpClient,
    pub(crate) files: FileWriter,
    pub(crate) secrets: Secrets,
    pub(crate) databases: Databases,
    pub(crate) programs: Programs,
    pub(crate) functions: Functions,
    mail: Mailer,
    providers: Providers,
}

impl ActionTools {
    /// Must be called inside a tokio runtime.
    pub(crate) fn start(options: &EngineOptions, secrets: Secrets) -> Self {
        Self {
            http: HttpClient::new(options.data_dir.clone()),
            files: FileWriter::start(options.data_dir.join("files")),
            databases: Databases::new(options.data_dir.clone(), secrets.clone()),
            secrets,
            programs: Programs::new(&options.exec_allow),
            functions: Functions::new(options.data_dir.clone()),
            mail: Mailer::new(options.data_dir.clone()),
            providers: Providers::default(),
        }
    }

    /// Works with what this topology names from now on; running rules too.
    pub(crate) fn define(&self, topology: &Topology) {
        self.mail.define(&topology.mail);
        self.providers.define(&topology.providers);
        self.functions.define(topology);
    }
}

impl Action {
    /// Reads an action of the kind `kind`, one of [`KINDS`]; nothing if it is not one, or has mistakes, which are
    /// reported.
    pub(crate) fn read(
        kind: &str,
        node: &Node,
        line: usize,
        path: &str,
        report: &mut Report,
    ) -> Option<Self> {
        match kind {
            "publish" => PublishAction::read(node, line, path, report).map(Self::Publish),
            "http" => HttpAction::read(node, line, path, report).map(Self::Http),
            "file" => FileAction::read(node, line, path, report).map(Self::File),
            "sql" => SqlAction::read(node, line, path, report).map(Self::Sql),
            "email" => EmailAction::read(node, line, path, report).map(Self::Email),
            "sms" => ProviderAction::read(Means::Sms, node, line, path, report).map(Self::Provider),
            "voice" => ProviderAction::read(Means::Voice, node, line, path, report).map(Self::Provider),
            "exec" => ExecAction::read(node, line, path, report).map(Self::Exec),
            "function" => FunctionAction::read(node, line, path, report).map(Self::Function),
            "log" => LogAction::read(node, line, path, report).map(Self::Log),
            _ => None,
        }
    }

    /// Works everything out for an event.
    pub(crate) fn fill(&self, context: &Context<'_>) -> Result<Step, PlanError> {
        Ok(match self {
            Self::Publish(action) => Step::Publish(action.fill(context)?),
            Self::Http(action) => Step::Http(action.fill(context)?),
            Self::File(action) => Step::File(action.fill(context)?),
            Self::Sql(action) => Step::Sql(action.fill(context)?),
            Self::Email(action) => Step::Email(action.fill(context)?),
            Self::Provider(action) => Step::Provider(action.fill(context)?),
            Self::Exec(action) => Step::Exec(action.fill(context)?),
            Self::Function(action) => Step::Function(action.fill(context)?),
            Self::Log(action) => Step::Log(action.fill(context)?),
        })
    }

    /// What it looks at of the event. The outside costs more than working out all of the event does.
    pub(crate) fn needs(&self) -> Needs {
        match self {
            Self::Publish(action) => action.needs(),
            _ => Needs::ALL,
        }
    }

    /// The exchange it publishes to, with the place that says so.
    pub(crate) fn publishes_to(&self) -> Option<(&str, &ExchangeName)> {
        match self {
            Self::Publish(action) => Some((action.place.as_str(), &action.exchange)),
            _ => None,
        }
    }

    /// The file of authorities that it trusts, with the place that says so.
    pub(crate) fn ca_file(&self) -> Option<(&str, &str)> {
        match self {
            Self::Http(action) => Some((action.place.as_str(), action.ca_file.as_deref()?)),
            _ => None,
        }
    }

    /// The database it needs, with the place that says so.
    pub(crate) fn database(&self) -> Option<(&str, &str)> {
        match self {
            Self::Sql(action) => Some((action.place.as_str(), &action.database)),
            _ => None,
        }
    }

    /// The function it calls.
    pub(crate) fn function(&self) -> Option<&str> {
        match self {
            Self::Function(action) => Some(&action.function),
            _ => None,
        }
    }

    /// Whether it waits for somebody else's answer, so that few are to be under way at once.
    pub(crate) fn waits_for_others(&self) -> bool {
        match self {
            Self::Publish(_) | Self::File(_) | Self::Log(_) => false,
            Self::Http(_)
            | Self::Email(_)
            | Self::Provider(_)
            | Self::Exec(_)
            | Self::Function(_)
            | Self::Sql(_) => true,
        }
    }
}

impl Step {
    /// Whom it needs: steps of one target fail together when that is down. `http HOST:PORT`; nothing for what the
    /// broker does itself.
    pub(crate) fn target(&self) -> Option<String> {
        match self {
            Self::Publish(_) | Self::File(_) | Self::Log(_) | Self::Exec(_) | Self::Function(_) => None,
            Self::Http(step) => Some(step.target()),
            Self::Sql(step) => Some(step.target()),
            Self::Email(step) => Some(step.target()),
            Self::Provider(step) => Some(step.target()),
        }
    }

    /// Begins it. What has to stand in the order of these calls is submitted before this returns; the rest begins
    /// when the result is polled. A publish does nothing here: it is part of a commit.
    pub(crate) fn start(self: &Arc<Self>, tools: &ActionTools) -> Running {
        match &**self {
            Self::Publish(_) => Box::pin(std::future::ready(Ok(Value::Null))),
            Self::File(step) => Box::pin(tools.files.append(step.clone())),
            _ => {
                let (step, tools) = (self.clone(), tools.clone());
                Box::pin(async move { step.run(&tools).await })
            }
        }
    }

    /// Does what needs no order among messages.
    async fn run(&self, tools: &ActionTools) -> Answer {
        match self {
            Self::Publish(_) => Ok(Value::Null),
            Self::File(step) => tools.files.append(step.clone()).await,
            Self::Http(step) => tools.http.send(step, &tools.secrets).await,
            Self::Email(step) => tools.mail.send(step, &tools.secrets).await,
            Self::Provider(step) => tools.providers.send(step, &tools.http, &tools.secrets).await,
            Self::Sql(step) => step.run(&tools.databases).await,
            Self::Exec(step) => tools.programs.run(step, &tools.secrets).await,
            Self::Function(step) => step.run(tools).await,
            Self::Log(step) => {
                step.run();
                Ok(Value::Null)
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(step) => step.fmt(f),
            Self::Http(step) => step.fmt(f),
            Self::File(step) => step.fmt(f),
            Self::Sql(step) => step.fmt(f),
            Self::Email(step) => step.fmt(f),
            Self::Provider(step) => step.fmt(f),
            Self::Exec(step) => step.fmt(f),
            Self::Function(step) => step.fmt(f),
            Self::Log(step) => step.fmt(f),
        }
    }
}
