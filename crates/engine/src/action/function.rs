//! Functions: components that work out an answer from an event.

use super::fill::{Context, PlanError, visible};
use super::{ActionTools, Answer};
use crate::function::{Call, is_in_this_build};
use crate::jq::Jq;
use crate::topology::Node;
use crate::topology::expression::jq_of;
use crate::topology::read::{Fields, Report};
use crate::topology::used::Used;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;

/// Calls a function.
#[derive(Debug)]
pub(crate) struct FunctionAction {
    place: String,
    pub(super) function: Arc<str>,
    input: Option<Jq>,
}

/// The same, filled in.
#[derive(Debug)]
pub(crate) struct FunctionStep {
    place: String,
    function: Arc<str>,
    call: Call,
}

impl FunctionAction {
    /// Reads what the file says.
    pub(super) fn read(node: &Node, line: usize, path: &str, report: &mut Report) -> Option<Self> {
        if !is_in_this_build(line, path, report) {
            return None;
        }
        let fields = Fields::read(node, path, &["call", "input"], report);
        fields.required("call", "'call', the name of a function of the section 'functions'", report);
        let function = fields.text("call", "the name of a function", report);
        let input = jq_of(&fields, "input", report);
        let function: Arc<str> = function?.into();
        report.used.push(Used::function(&function, line, &fields.path_of("call")));
        Some(Self { place: format!("{}:{line}", report.file), function, input })
    }

    /// With everything worked out for an event.
    pub(super) fn fill(&self, context: &Context<'_>) -> Result<FunctionStep, PlanError> {
        let input = match &self.input {
            None => context.event.to_cloud_event(),
            Some(jq) => jq.one(context.val)?,
        };
        let call = Call {
            event: input.to_string(),
            event_id: context.event.id.clone(),
            rule: context.rule.name.clone(),
            idempotency_key: visible(&context.step_id()),
        };
        Ok(FunctionStep { place: self.place.clone(), function: self.function.clone(), call })
    }
}

impl FunctionStep {
    /// Calls it.
    pub(super) async fn run(&self, tools: &ActionTools) -> Answer {
        tools.functions.call(&self.place, &self.function, self.call.clone(), &tools.secrets).await
    }

    /// See [`super::Step::facts`].
    pub(super) fn facts(&self) -> Value {
        let input: Value = serde_json::from_str(&self.call.event).unwrap_or_default();
        json!({"call": &*self.function, "input": input})
    }
}

impl fmt::Display for FunctionStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, function, call } = self;
        write!(f, "function ({place})\n   call: {function}\n   input: {}", call.event)
    }
}
