//! What a running component can reach: its limits, and what it was granted.

use super::Call;
use super::spec::{FunctionSpec, Limits};
use crate::action::one_line;
use crate::secret::Scrub;
use std::sync::Arc;
use wasmtime::ResourceLimiter;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

/// Lines that a call may write into the log; the rest is dropped, which one more line says.
const LOG_LINES_MAX: usize = 100;

/// A line that a component writes to its standard output is cut there. Bytes.
const LINE_MAX_BYTES: usize = 8 * 1024;

/// So much of the standard error goes into the error. Characters.
const STDERR_SHOWN_MAX_CHARS: usize = 200;

/// Elements of a component's tables, all together.
const TABLE_ELEMENTS_MAX: usize = 1_000_000;

/// Core instances, tables and memories of a component, each. A component has them from its build on.
const PARTS_MAX: usize = 1000;

/// How grave a line is.
#[allow(dead_code, reason = "what components say is not made here")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum Level {
    /// Something failed.
    #[component(name = "error")]
    Error,
    /// Something is odd.
    #[component(name = "warn")]
    Warn,
    /// Something happened.
    #[component(name = "info")]
    Info,
    /// For who looks for a mistake.
    #[component(name = "debug")]
    Debug,
}

/// A component's standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

/// What belongs to one call.
pub(super) struct Host {
    pub(super) limiter: Limiter,
    /// Slices of time that it may still compute for.
    pub(super) slices_left: u64,
    /// It used them up.
    pub(super) is_time_over: bool,
    /// Nothing: it was not granted.
    log: Option<Log>,
    config: Vec<(Box<str>, String)>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The beginning of what it wrote to its standard error.
    said: String,
}

/// Who writes lines, and how many more.
struct Log {
    function: Box<str>,
    rule: String,
    event: String,
    lines_left: usize,
    scrub: Arc<Scrub>,
}

impl Host {
    /// For one call; `config`: what its settings mean now.
    pub(super) fn new(
        spec: &FunctionSpec,
        call: &Call,
        config: Vec<(Box<str>, String)>,
        scrub: Arc<Scrub>,
    ) -> Self {
        let log = spec.grant.log.then(|| Log {
            function: spec.name.clone(),
            rule: call.rule.clone(),
            event: call.event_id.clone(),
            lines_left: LOG_LINES_MAX,
            scrub,
        });
        Self { log, config, ..Self::within(&spec.limits) }
    }

    /// With limits, and nothing granted.
    pub(super) fn within(limits: &Limits) -> Self {
        Self {
            limiter: Limiter::new(limits.memory_max_bytes),
            slices_left: super::machine::slices(limits.time_max),
            is_time_over: false,
            log: None,
            config: Vec::new(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            said: String::new(),
        }
    }

    /// Takes what the component writes, and logs the lines that are whole.
    pub(super) fn write(&mut self, output: Output, bytes: &[u8]) {
        if output == Output::Stderr && self.said.len() < STDERR_SHOWN_MAX_CHARS {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * STDERR_SHOWN_MAX_CHARS)]);
            let room = STDERR_SHOWN_MAX_CHARS - self.said.len();
            self.said.extend(text.chars().take(room));
        }
        if self.log.is_none() {
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = match output {
                Output::Stdout => &mut self.stdout,
                Output::Stderr => &mut self.stderr,
            };
            let room = LINE_MAX_BYTES.saturating_sub(line.len());
            line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line(output);
            }
        }
    }

    fn end_line(&mut self, output: Output) {
        let (line, level) = match output {
            Output::Stdout => (std::mem::take(&mut self.stdout), Level::Info),
            Output::Stderr => (std::mem::take(&mut self.stderr), Level::Warn),
        };
        let line = String::from_utf8_lossy(&line);
        if !line.trim_end().is_empty() {
            self.log(level, line.trim_end());
        }
    }

    /// Writes a line into the log, if that was granted.
    pub(super) fn log(&mut self, level: Level, message: &str) {
        let Some(log) = &mut self.log else { return };
        let Log { function, rule, event, lines_left, scrub } = log;
        let message = match *lines_left {
            0 => return,
            1 => format!("it wrote {LOG_LINES_MAX} lines, the rest of this call is dropped"),
            // First cut, then scrubbed: a component may have made it as long as its memory.
            _ => scrub.text(one_line(message)),
        };
        *lines_left -= 1;
        match level {
            Level::Error => {
                tracing::error!(target: "millpond_functions", %function, rule, event, "{message}")
            }
            Level::Warn => tracing::warn!(target: "millpond_functions", %function, rule, event, "{message}"),
            Level::Info => tracing::info!(target: "millpond_functions", %function, rule, event, "{message}"),
            Level::Debug => {
                tracing::debug!(target: "millpond_functions", %function, rule, event, "{message}");
            }
        }
    }

    /// The call is over: logs lines without an end. What it wrote to its standard error.
    pub(super) fn finish(mut self) -> String {
        for output in [Output::Stdout, Output::Stderr] {
            self.end_line(output);
        }
        self.said
    }
}

/// Counts what the memories of a component have together.
pub(super) struct Limiter {
    memory_left_bytes: u64,
    elements_left: usize,
    /// It was refused more.
    pub(super) is_memory_over: bool,
}

impl Limiter {
    fn new(memory_max_bytes: u64) -> Self {
        Self { memory_left_bytes: memory_max_bytes, elements_left: TABLE_ELEMENTS_MAX, is_memory_over: false }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        // A refusal is an answer that a component can live with: it may have something to let go of.
        match self.memory_left_bytes.checked_sub(more) {
            Some(left) => self.memory_left_bytes = left,
            None => {
                self.is_memory_over = true;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match self.elements_left.checked_sub(desired.saturating_sub(current)) {
            Some(left) => self.elements_left = left,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

/// Defines an interface of `millpond:function`, under the name by which a component imports it.
pub(super) fn define(linker: &mut Linker<Host>, import: &str) -> wasmtime::Result<()> {
    let base = import.split('@').next().unwrap_or_default();
    match base {
        "millpond:function/log" => {
            linker.instance(import)?.func_wrap("write", |mut store, (level, message): (Level, String)| {
                store.data_mut().log(level, &message);
                Ok(())
            })
        }
        "millpond:function/config" => {
            linker.instance(import)?.func_wrap("get", |store, (name,): (String,)| {
                let config = &store.data().config;
                Ok((config.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.clone()),))
            })
        }
        _ => Ok(()),
    }
}
