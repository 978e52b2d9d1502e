//! Running a program: its limits, its time, its end.
//!
//! Limits are set by `prlimit` of util-linux, which then becomes the program: they hold from its first instruction,
//! and no code runs here between fork and exec.
//!
//! What a program reads is a file in memory that is complete before the program begins: through a pipe, a broker that
//! is killed while it writes would leave it the beginning of an input, which it cannot tell from the whole.

use super::{ExecStep, Limits};
use crate::action::{ActionError, Answer};
use crate::secret::{Scrub, Secrets};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// Where util-linux is.
const PRLIMIT: &str = "/usr/bin/prlimit";

/// Where programs look for programs.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Of the standard error, so much is kept. Bytes.
const STDERR_MAX_BYTES: u64 = 16 * 1024;

/// So much of the standard error goes into the error. Characters.
const STDERR_SHOWN_MAX_CHARS: usize = 200;

/// The programs that rules may run; cloning counts a reference.
#[derive(Debug, Clone)]
pub(crate) struct Programs(Arc<BTreeSet<PathBuf>>);

/// What a program left.
struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Programs {
    /// Those of the settings.
    pub(crate) fn new(allowed: &[PathBuf]) -> Self {
        Self(Arc::new(allowed.iter().cloned().collect()))
    }

    /// Why a program may not be run, or cannot.
    pub(crate) fn check(&self, program: &str) -> Result<(), String> {
        if !self.0.contains(Path::new(program)) {
            return Err(format!(
                "the program {program} is not allowed: the setting exec_allow names those that are"
            ));
        }
        match Path::new(PRLIMIT).exists() {
            true => Ok(()),
            false => Err(format!("programs cannot be limited here: {PRLIMIT} of util-linux is missing")),
        }
    }

    /// Runs the program and judges its exit code.
    pub(crate) async fn run(&self, step: &ExecStep, secrets: &Secrets) -> Answer {
        let failed = |reason: String, is_retryable: bool| ActionError::Exec {
            place: step.place.clone(),
            program: step.program.to_string(),
            reason,
            is_retryable,
        };
        self.check(&step.program).map_err(|reason| failed(reason, true))?;
        let mut scrub = Scrub::default();
        let mut command = command(step);
        for (name, text) in &step.environment {
            let value = text.resolve(secrets).await.map_err(|error| ActionError::Secret {
                place: step.place.clone(),
                reason: error.to_string(),
            })?;
            scrub.add(&value);
            command.env(&**name, value.expose());
        }
        let input = input(&step.stdin).map_err(|error| failed(format!("its input: {error}"), true))?;
        command.stdin(input);
        let child =
            command.spawn().map_err(|error| failed(format!("it cannot be started: {error}"), true))?;
        let ended = drive(child, step).await.map_err(|reason| failed(reason, true))?;
        let text = |bytes: &[u8]| scrub.text(String::from_utf8_lossy(bytes).into_owned());
        let code = ended.status.code().map(i64::from);
        if code.is_none_or(|code| !step.rest.expect.contains(&code)) {
            let said: String = text(&ended.stderr).trim().chars().take(STDERR_SHOWN_MAX_CHARS).collect();
            let said = if said.is_empty() { said } else { format!(": {}", said.escape_debug()) };
            let gives_up = code.is_some_and(|code| step.rest.give_up.contains(&code));
            return Err(failed(format!("{}{said}", ended.status), !gives_up));
        }
        let stdout = text(&ended.stdout);
        let stdout: Value = serde_json::from_str(&stdout).unwrap_or(Value::String(stdout));
        Ok(json!({"status": code, "stdout": stdout, "stderr": text(&ended.stderr)}))
    }
}

fn command(step: &ExecStep) -> Command {
    let mut command = Command::new(PRLIMIT);
    command.args(limits(&step.rest.limits)).arg("--").arg(&*step.program).args(&step.arguments);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .current_dir(&*step.rest.directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that it can be ended with all that it started.
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// A file in memory that nobody can change, read from its beginning.
fn input(bytes: &[u8]) -> std::io::Result<Stdio> {
    let file = memfd_create("stdin", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    file.rewind()?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}

fn limits(limits: &Limits) -> Vec<String> {
    let mut out = vec![
        "--core=0".to_owned(),
        format!("--as={}", limits.memory_bytes),
        format!("--cpu={}", limits.cpu.as_secs().max(1)),
        format!("--nofile={}", limits.files),
        format!("--fsize={}", limits.file_size_bytes),
    ];
    out.extend(limits.processes.map(|processes| format!("--nproc={processes}")));
    out
}

/// Ends a process with its group when it goes, unless the group has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Nobody may be left in it.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Reads what the program writes, within its time; then ends whatever it left running.
async fn drive(mut child: Child, step: &ExecStep) -> Result<Ended, String> {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let _group = Group(pid);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let output_max_bytes = step.rest.output_max_bytes;
    let work = async {
        let stdout = async {
            let bytes = read_some(stdout, output_max_bytes + 1).await?;
            match bytes.len() as u64 > output_max_bytes {
                true => {
                    Err(format!("it wrote more than {output_max_bytes} bytes (output_max) and was ended"))
                }
                false => Ok(bytes),
            }
        };
        let stderr = async {
            let Some(mut stderr) = stderr else { return Ok(Vec::new()) };
            let bytes = read_some(Some(&mut stderr), STDERR_MAX_BYTES).await?;
            // The rest is read, or the program would wait for ever.
            tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await.map_err(|error| error.to_string())?;
            Ok(bytes)
        };
        let (stdout, stderr) = tokio::try_join!(stdout, stderr)?;
        let status = child.wait().await.map_err(|error| error.to_string())?;
        Ok(Ended { status, stdout, stderr })
    };
    let too_long = || format!("it took more than {} ms and was ended", step.rest.timeout.as_millis());
    tokio::time::timeout(step.rest.timeout, work).await.unwrap_or_else(|_| Err(too_long()))
}

async fn read_some(from: Option<impl AsyncRead + Unpin>, max_bytes: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(max_bytes).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
    }
    Ok(bytes)
}
