//! Lines appended to files.

mod writer;

use super::fill::{Context, PlanError};
use crate::jq::{Jq, Template};
use crate::topology::Node;
use crate::topology::expression::{jq_of, template};
use crate::topology::read::{Fields, Report};
use serde_json::Value;
use std::fmt;
pub(crate) use writer::FileWriter;

/// Old files kept beside a rotated one, at most.
const KEEP_MAX: i64 = 1000;

/// Size at which a file is rotated unless the rule says otherwise. Bytes.
const FILE_SIZE_DEFAULT_BYTES: u64 = 100 * 1024 * 1024;

/// Appends a line to a file.
#[derive(Debug)]
pub(crate) struct FileAction {
    pub(crate) place: String,
    pub(crate) path: Template,
    pub(crate) line: Option<Jq>,
    pub(crate) size_max_bytes: u64,
    pub(crate) keep: u32,
}

/// The same, filled in.
#[derive(Debug, Clone)]
pub(crate) struct FileStep {
    pub(crate) place: String,
    pub(crate) path: String,
    /// Without its line end.
    pub(crate) line: String,
    pub(crate) size_max_bytes: u64,
    pub(crate) keep: u32,
}

impl FileAction {
    /// Reads what the file says.
    pub(super) fn read(node: &Node, line: usize, path: &str, report: &mut Report) -> Option<Self> {
        let fields = Fields::read(node, path, &["path", "line", "max_size", "keep"], report);
        fields.required("path", "'path', the file to append to", report);
        let file = template(&fields, "path", report);
        if let (Some(template), Some(node)) = (&file, fields.get("path")) {
            let fixed = template.as_fixed().unwrap_or(template.fixed_start());
            if fixed.split('/').any(|part| part == "..") {
                report.expected(node, &fields.path_of("path"), "a path without '..'");
            } else if template.as_fixed().is_some_and(|path| path.is_empty() || path.ends_with('/')) {
                report.expected(node, &fields.path_of("path"), "the path of a file");
            }
        }
        let text = jq_of(&fields, "line", report);
        Some(Self {
            place: format!("{}:{line}", report.file),
            path: file?,
            line: text,
            size_max_bytes: fields.size("max_size", FILE_SIZE_DEFAULT_BYTES, 1, report),
            keep: fields.integer("keep", 5, 1..=KEEP_MAX, report) as u32,
        })
    }

    /// With everything worked out for an event.
    pub(super) fn fill(&self, context: &Context<'_>) -> Result<FileStep, PlanError> {
        let unusable = |reason: String| PlanError::Unusable { place: self.place.clone(), reason };
        let path = self.path.text(context.val)?;
        let is_absolute = path.starts_with('/');
        if is_absolute && !self.path.fixed_start().starts_with('/') {
            let reason =
                format!("the path '{path}' is absolute, and only its own beginning in the file may say so");
            return Err(unusable(reason));
        }
        if path.is_empty() || path.ends_with('/') || path.contains('\0') {
            return Err(unusable(format!("'{path}' is not the path of a file")));
        }
        if path.split('/').any(|part| part == "..") {
            return Err(unusable(format!("the path '{path}' leads out of its folder with '..'")));
        }
        let line = match &self.line {
            None => context.event.to_cloud_event().to_string(),
            Some(jq) => match jq.one(context.val)? {
                // One event is one line: nobody can put lines of their own into an audit file.
                Value::String(text) => text.replace('\r', "\\r").replace('\n', "\\n"),
                other => other.to_string(),
            },
        };
        Ok(FileStep {
            place: self.place.clone(),
            path,
            line,
            size_max_bytes: self.size_max_bytes,
            keep: self.keep,
        })
    }
}

impl fmt::Display for FileStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file ({})", self.place)?;
        write!(f, "\n   path: {}\n   line: {}", self.path, self.line)
    }
}
