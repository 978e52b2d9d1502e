//! Programs of this machine, run without a shell.

mod run;

use super::fill::{Context, PlanError, show_body, visible};
use crate::jq::{Jq, Template};
use crate::secret::{SecretTemplate, SecretText};
use crate::topology::expression::{compile_template, jq_of, read_secret_headers};
use crate::topology::read::{Fields, Report};
use crate::topology::used::Used;
use crate::topology::{Kind, Node};
pub(crate) use run::Programs;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Longest time a program may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Arguments of a program, at most.
const ARGUMENTS_MAX: usize = 1000;

/// Most that a program may write to its standard output unless the rule says otherwise. Bytes.
const OUTPUT_DEFAULT_BYTES: u64 = 64 * 1024;

/// What a rule may ask for instead. Bytes.
const OUTPUT_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Runs a program.
#[derive(Debug)]
pub(crate) struct ExecAction {
    place: String,
    /// Never taken from an event.
    program: Arc<str>,
    arguments: Vec<Template>,
    stdin: Option<Jq>,
    environment: Vec<(Box<str>, SecretTemplate)>,
    rest: Arc<ExecRest>,
}

/// What does not depend on the event.
#[derive(Debug)]
pub(crate) struct ExecRest {
    pub(super) timeout: Duration,
    pub(super) output_max_bytes: u64,
    pub(super) directory: Box<str>,
    /// Exit codes that mean it was done.
    pub(super) expect: Vec<i64>,
    /// Exit codes after which it is not tried again.
    pub(super) give_up: Vec<i64>,
    pub(super) limits: Limits,
}

/// What a program may take of the machine.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(super) memory_bytes: u64,
    pub(super) cpu: Duration,
    pub(super) files: u32,
    pub(super) file_size_bytes: u64,
    /// Of the broker's user, all its processes and threads counted.
    pub(super) processes: Option<u32>,
}

/// The same, filled in.
#[derive(Debug)]
pub(crate) struct ExecStep {
    pub(super) place: String,
    pub(super) program: Arc<str>,
    pub(super) arguments: Vec<String>,
    pub(super) stdin: Vec<u8>,
    pub(super) environment: Vec<(Box<str>, SecretText)>,
    pub(super) rest: Arc<ExecRest>,
}

impl ExecAction {
    /// Reads what the file says.
    pub(super) fn read(node: &Node, line: usize, path: &str, report: &mut Report) -> Option<Self> {
        let known =
            ["command", "stdin", "env", "directory", "timeout", "output_max", "expect", "give_up", "limits"];
        let fields = Fields::read(node, path, &known, report);
        let expected = "'command', a list: the program's absolute path, then its arguments";
        let command = fields.required("command", expected, report);
        let command = command.and_then(|node| read_command(node, &fields.path_of("command"), report));
        let stdin = jq_of(&fields, "stdin", report);
        let environment = read_secret_headers(&fields, "env", report);
        for (name, _) in &environment {
            if name.is_empty() || name.contains(['=', '\0']) {
                let text = format!("found '{name}', expected the name of a variable");
                report.add(fields.line, &fields.path_of("env"), text);
            }
        }
        let directory = fields.text("directory", "an absolute path", report).unwrap_or("/");
        if let Some(node) = fields.get("directory").filter(|_| !directory.starts_with('/')) {
            report.expected(node, &fields.path_of("directory"), "an absolute path");
        }
        let timeout = fields.duration("timeout", Duration::from_secs(10), TIMEOUT_MAX, report);
        let output = fields.size("output_max", OUTPUT_DEFAULT_BYTES, 1, report);
        if let Some(node) = fields.get("output_max").filter(|_| output > OUTPUT_MAX_BYTES) {
            report.expected(node, &fields.path_of("output_max"), "at most 16MiB");
        }
        let rest = ExecRest {
            timeout,
            output_max_bytes: output.min(OUTPUT_MAX_BYTES),
            directory: directory.into(),
            expect: codes(&fields, "expect", report).unwrap_or_else(|| vec![0]),
            give_up: codes(&fields, "give_up", report).unwrap_or_default(),
            limits: read_limits(&fields, timeout, report),
        };
        let (program, arguments) = command?;
        report.used.push(Used::program(&program, line, &fields.path_of("command")));
        Some(Self {
            place: format!("{}:{line}", report.file),
            program,
            arguments,
            stdin,
            environment,
            rest: Arc::new(rest),
        })
    }

    /// With everything worked out for an event.
    pub(super) fn fill(&self, context: &Context<'_>) -> Result<ExecStep, PlanError> {
        let unusable = |reason: String| PlanError::Unusable { place: self.place.clone(), reason };
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for argument in &self.arguments {
            arguments.push(argument.text(context.val)?);
        }
        if let Some(argument) = arguments.iter().find(|argument| argument.contains('\0')) {
            return Err(unusable(format!(
                "the argument {argument:?} has a zero byte, which no argument can have"
            )));
        }
        let stdin = match &self.stdin {
            None => context.event.to_cloud_event().to_string(),
            Some(jq) => match jq.one(context.val)? {
                Value::String(text) => text,
                other => other.to_string(),
            },
        };
        let ours = [
            ("MILLPOND_RULE", context.rule.name.clone()),
            ("MILLPOND_EVENT_ID", visible(&context.event.id)),
            ("MILLPOND_IDEMPOTENCY_KEY", visible(&context.step_id())),
        ];
        let mut environment: Vec<(Box<str>, SecretText)> =
            ours.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        for (name, value) in &self.environment {
            if let Some(value) = value.fill(context.val)? {
                environment.push((name.clone(), value));
            }
        }
        Ok(ExecStep {
            place: self.place.clone(),
            program: self.program.clone(),
            arguments,
            stdin: stdin.into_bytes(),
            environment,
            rest: self.rest.clone(),
        })
    }
}

impl ExecStep {
    /// See [`super::Step::facts`].
    pub(super) fn facts(&self) -> Value {
        let command: Vec<&str> =
            std::iter::once(&*self.program).chain(self.arguments.iter().map(String::as_str)).collect();
        // A secret stands there as its reference.
        let environment: serde_json::Map<_, _> = self
            .environment
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string().into()))
            .collect();
        let stdin = String::from_utf8_lossy(&self.stdin);
        let stdin = serde_json::from_str(&stdin).unwrap_or_else(|_| Value::from(&*stdin));
        serde_json::json!({"command": command, "env": environment, "stdin": stdin})
    }
}

fn read_command(node: &Node, path: &str, report: &mut Report) -> Option<(Arc<str>, Vec<Template>)> {
    let Kind::List(items) = &node.kind else {
        report.expected(node, path, "a list: the program's absolute path, then its arguments");
        return None;
    };
    if items.len() > ARGUMENTS_MAX {
        report.expected(node, path, &format!("at most {ARGUMENTS_MAX} texts"));
        return None;
    }
    let Some((first, rest)) = items.split_first() else {
        report.expected(node, path, "the program's absolute path, then its arguments");
        return None;
    };
    let mut arguments = Vec::with_capacity(rest.len());
    for (number, item) in rest.iter().enumerate() {
        arguments.push(compile_template(item, &format!("{path}[{}]", number + 1), report));
    }
    let program = match &first.kind {
        Kind::Text(program) if program.starts_with('/') && !program.contains("\\(") => Some(program),
        _ => {
            report.expected(first, &format!("{path}[0]"), "the absolute path of a program, without jq");
            None
        }
    };
    Some((Arc::from(&**program?), arguments.into_iter().collect::<Option<Vec<_>>>()?))
}

fn read_limits(fields: &Fields<'_>, timeout: Duration, report: &mut Report) -> Limits {
    let nothing = Node::from_json(&Value::Null);
    let node = fields.get("limits").unwrap_or(&nothing);
    let known = ["memory", "cpu", "files", "file_size", "processes"];
    let fields = Fields::read(node, &fields.path_of("limits"), &known, report);
    let processes = fields.get("processes").map(|_| fields.integer("processes", 1, 1..=1 << 20, report));
    Limits {
        memory_bytes: fields.size("memory", 512 << 20, 1 << 20, report),
        // Several threads may use more of it than there is time.
        cpu: fields.duration("cpu", timeout, TIMEOUT_MAX, report),
        files: fields.integer("files", 256, 3..=1 << 20, report) as u32,
        file_size_bytes: fields.size("file_size", 1 << 30, 0, report),
        processes: processes.map(|processes| processes as u32),
    }
}

/// A code, or a list of codes.
fn codes(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<Vec<i64>> {
    let node = fields.get(key)?;
    let one = |node: &Node| match node.kind {
        Kind::Int(code @ 0..=255) => Some(code),
        _ => None,
    };
    let found = match &node.kind {
        Kind::List(items) if !items.is_empty() => items.iter().map(one).collect(),
        _ => one(node).map(|code| vec![code]),
    };
    if found.is_none() {
        report.expected(node, &fields.path_of(key), "an exit code from 0 to 255, or a list of them");
    }
    found
}

impl fmt::Display for ExecStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exec ({})\n   program: {}", self.place, self.program)?;
        for argument in &self.arguments {
            write!(f, "\n   argument: {argument}")?;
        }
        for (name, value) in &self.environment {
            write!(f, "\n   variable {name}: {value}")?;
        }
        show_body(f, &self.stdin)
    }
}
