//! Statements in databases.

use super::ActionError;
use super::fill::{Context, PlanError};
use crate::database::{ANSWER_MAX_BYTES, Databases, Statement, read_range, show_range};
use crate::jq::Jq;
use crate::topology::expression::jq;
use crate::topology::read::{Fields, Report};
use crate::topology::{Kind, Node};
use jaq_json::Val;
use serde_json::{Value, json};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Parameters of a statement, at most.
const PARAMETERS_MAX: usize = 100;

/// Rows of an answer that are kept, unless the rule says otherwise.
const ROWS_DEFAULT: i64 = 100;

/// Most rows of an answer that a rule may ask for.
const ROWS_MAX: i64 = 10_000;

/// Longest statement. Bytes.
const STATEMENT_MAX_BYTES: usize = 64 * 1024;

/// What expressions of parameters see as `.key`.
const KEY: &str = "key";

/// Does a statement in a database.
#[derive(Debug)]
pub(crate) struct SqlAction {
    pub(crate) place: String,
    pub(crate) database: Arc<str>,
    pub(crate) statement: Arc<str>,
    pub(crate) parameters: Vec<Jq>,
    pub(crate) rows_max: usize,
    pub(crate) expect_rows: Option<RangeInclusive<u64>>,
}

/// The same, filled in.
#[derive(Debug)]
pub(crate) struct SqlStep {
    pub(crate) place: String,
    pub(crate) database: Arc<str>,
    pub(crate) statement: Statement,
}

impl SqlAction {
    /// Reads what the file says.
    pub(super) fn read(node: &Node, line: usize, path: &str, report: &mut Report) -> Option<Self> {
        let known = ["database", "statement", "parameters", "rows", "expect_rows"];
        let fields = Fields::read(node, path, &known, report);
        fields.required("database", "'database', a name of the section 'databases'", report);
        let database = fields.text("database", "the name of a database", report);
        fields.required("statement", "'statement', in SQL", report);
        let statement = fields.text("statement", "a statement in SQL", report);
        if let (Some(text), Some(node)) = (statement, fields.get("statement")) {
            check_statement(text, node, &fields.path_of("statement"), report);
        }
        let rows_max = fields.integer("rows", ROWS_DEFAULT, 0..=ROWS_MAX, report) as usize;
        let expect_rows = fields.get("expect_rows").and_then(|node| {
            let range = match &node.kind {
                Kind::Int(count) => u64::try_from(*count).ok().map(|count| count..=count),
                Kind::Text(text) => read_range(text),
                _ => None,
            };
            if range.is_none() {
                report.expected(node, &fields.path_of("expect_rows"), "a number of rows such as 1 or 1-5");
            }
            range
        });
        let parameters = read_parameters(&fields, report);
        Some(Self {
            place: format!("{}:{line}", report.file),
            database: database?.into(),
            statement: statement?.into(),
            parameters: parameters?,
            rows_max,
            expect_rows,
        })
    }

    /// With everything worked out for an event.
    pub(super) fn fill(&self, context: &Context<'_>) -> Result<SqlStep, PlanError> {
        let mut seen = context.val.clone();
        if let Val::Obj(fields) = &mut seen {
            Arc::make_mut(fields).insert(Val::from(KEY.to_owned()), Val::from(context.step_id()));
        }
        let parameters: Result<_, _> = self.parameters.iter().map(|jq| jq.one(&seen)).collect();
        Ok(SqlStep {
            place: self.place.clone(),
            database: self.database.clone(),
            statement: Statement {
                text: self.statement.clone(),
                parameters: parameters?,
                rows_max: self.rows_max,
                bytes_max: ANSWER_MAX_BYTES,
                expect_rows: self.expect_rows.clone(),
            },
        })
    }
}

fn check_statement(text: &str, node: &Node, path: &str, report: &mut Report) {
    if text.contains("\\(") {
        report.add(
            node.line,
            path,
            "found '\\(' in a statement, expected placeholders: values come in by 'parameters' alone, so that nobody \
             can put SQL into them",
        );
    }
    if text.trim().is_empty() {
        report.add(node.line, path, "found nothing, expected a statement in SQL");
    }
    if text.len() > STATEMENT_MAX_BYTES {
        let found = format!("found {} bytes, expected at most {STATEMENT_MAX_BYTES}", text.len());
        report.add(node.line, path, found);
    }
}

fn read_parameters(fields: &Fields<'_>, report: &mut Report) -> Option<Vec<Jq>> {
    let Some(node) = fields.get("parameters") else { return Some(Vec::new()) };
    let path = fields.path_of("parameters");
    let Kind::List(items) = &node.kind else {
        report.expected(node, &path, "a list of jq expressions, one for each placeholder");
        return None;
    };
    if items.len() > PARAMETERS_MAX {
        let found = format!("found {} parameters, expected at most {PARAMETERS_MAX}", items.len());
        report.add(node.line, &path, found);
        return None;
    }
    let items = items.iter().enumerate();
    let compiled: Vec<_> = items.map(|(at, item)| jq(item, &format!("{path}[{at}]"), report)).collect();
    compiled.into_iter().collect()
}

impl SqlStep {
    /// See [`super::Step::target`].
    pub(super) fn target(&self) -> String {
        format!("database {}", self.database)
    }

    /// Does it. Gives `{"rows": [...], "affected": N, "more": false}`.
    pub(super) async fn run(&self, databases: &Databases) -> Result<Value, ActionError> {
        let failed = |error| ActionError::Sql { place: self.place.clone(), error };
        let database = databases.get(&self.database).map_err(failed)?;
        let answer = database.run(&self.statement).await.map_err(failed)?;
        let rows: Vec<_> = answer.rows.into_iter().map(Value::Object).collect();
        Ok(json!({"rows": rows, "affected": answer.affected, "more": answer.more}))
    }
}

impl fmt::Display for SqlStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sql ({})", self.place)?;
        write!(f, "\n   database: {}\n   statement: {}", self.database, self.statement.text)?;
        for (at, value) in self.statement.parameters.iter().enumerate() {
            write!(f, "\n   parameter {}: {value}", at + 1)?;
        }
        match &self.statement.expect_rows {
            None => Ok(()),
            Some(range) => write!(f, "\n   expected rows: {}", show_range(range)),
        }
    }
}
