//! The section `functions` of a topology file.

use crate::secret::SecretText;
use crate::topology::Node;
use crate::topology::read::{Fields, Report, entries};
use crate::topology::used::plain_name;
use std::sync::Arc;
use std::time::Duration;

/// Functions of one file: each has compiled code in memory.
const FUNCTIONS_MAX: usize = 100;

/// What a function's memories have together unless the file says otherwise. Bytes.
const MEMORY_DEFAULT_BYTES: u64 = 64 << 20;

/// What a file may ask for instead. Bytes.
const MEMORY_MAX_BYTES: u64 = 1 << 30;

/// How long a call may compute unless the file says otherwise.
const TIME_DEFAULT: Duration = Duration::from_secs(1);

/// What a file may ask for instead.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Largest answer unless the file says otherwise. Bytes.
const OUTPUT_DEFAULT_BYTES: u64 = 1 << 20;

/// What a file may ask for instead. Bytes.
const OUTPUT_MAX_BYTES: u64 = 16 << 20;

/// A function as the file says it.
#[derive(Debug, Clone)]
pub(crate) struct FunctionSpec {
    pub(crate) name: Box<str>,
    /// `FILE:LINE`.
    pub(crate) place: String,
    /// Where its component is: absolute, or relative to the data directory.
    pub(crate) component: Box<str>,
    pub(crate) limits: Limits,
    pub(crate) grant: Grant,
    /// As written, to see whether another file says the same.
    pub(crate) definition: Node,
}

/// What a call may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// All its memories together.
    pub(crate) memory_max_bytes: u64,
    /// Of computing; waiting for a thread does not count.
    pub(crate) time_max: Duration,
    pub(crate) output_max_bytes: u64,
}

/// What a function may reach beside its input. Nothing by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grant {
    pub(crate) log: bool,
    pub(crate) clock: bool,
    pub(crate) random: bool,
    pub(crate) config: Option<Vec<(Box<str>, SecretText)>>,
}

/// Whether this build can run functions; if not, that is reported.
pub(crate) fn is_in_this_build(line: usize, path: &str, report: &mut Report) -> bool {
    if !cfg!(feature = "wasm") {
        let text = "found a function, expected none: this build of Millpond has no WebAssembly, it was built without the feature 'wasm'";
        report.add(line, path, text);
    }
    cfg!(feature = "wasm")
}

/// Reads the section `functions`.
pub(crate) fn read_functions(node: &Node, report: &mut Report) -> Vec<Arc<FunctionSpec>> {
    if !is_in_this_build(node.line, "functions", report) {
        return Vec::new();
    }
    let found = entries(node, "functions", "a mapping from names to functions", report);
    if found.len() > FUNCTIONS_MAX {
        report.expected(node, "functions", &format!("at most {FUNCTIONS_MAX} functions"));
    }
    let mut functions = Vec::new();
    for entry in found.iter().take(FUNCTIONS_MAX) {
        let path = format!("functions.{}", entry.key);
        if !plain_name(&entry.key, entry.line, &path, report) {
            continue;
        }
        let known = ["component", "memory", "time", "output_max", "grant"];
        let fields = Fields::read(&entry.value, &path, &known, report);
        fields.required("component", "'component', the file of a WebAssembly component", report);
        let component = fields.text("component", "the path of a file", report);
        let limits = Limits {
            memory_max_bytes: at_most(&fields, "memory", (MEMORY_DEFAULT_BYTES, MEMORY_MAX_BYTES), report),
            time_max: fields.duration("time", TIME_DEFAULT, TIME_MAX, report),
            output_max_bytes: at_most(
                &fields,
                "output_max",
                (OUTPUT_DEFAULT_BYTES, OUTPUT_MAX_BYTES),
                report,
            ),
        };
        let grant = fields.get("grant");
        let grant = grant.map(|node| read_grant(node, &fields.path_of("grant"), report)).unwrap_or_default();
        let Some(component) = component else { continue };
        functions.push(Arc::new(FunctionSpec {
            name: entry.key.clone(),
            place: format!("{}:{}", report.file, entry.line),
            component: component.into(),
            limits,
            grant,
            definition: entry.value.clone(),
        }));
    }
    functions
}

/// A size with a greatest value.
fn at_most(fields: &Fields<'_>, key: &str, (default, max): (u64, u64), report: &mut Report) -> u64 {
    let size = fields.size(key, default, 1, report);
    if let Some(node) = fields.get(key).filter(|_| size > max) {
        report.expected(node, &fields.path_of(key), &format!("at most {}MiB", max >> 20));
    }
    size.min(max)
}

fn read_grant(node: &Node, path: &str, report: &mut Report) -> Grant {
    let fields = Fields::read(node, path, &["log", "clock", "random", "config"], report);
    let config = fields.node("config").map(|node| {
        let path = fields.path_of("config");
        let mut config = Vec::new();
        for entry in entries(node, &path, "a mapping from names to texts", report) {
            let path = format!("{path}.{}", entry.key);
            let value = SecretText::read(&entry.value, &path, "a text, which may hold secrets", report);
            config.extend(value.map(|value| (entry.key.clone(), value)));
        }
        config
    });
    Grant {
        log: fields.bool("log", false, report),
        clock: fields.bool("clock", false, report),
        random: fields.bool("random", false, report),
        config,
    }
}
