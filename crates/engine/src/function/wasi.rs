//! The system that components are built for, WASI 0.2, with nothing in it: no files, no variables, no arguments, no
//! input, no network. What is written to the standard outputs goes where lines of the log go. Clocks and random
//! numbers are there for those that they are granted to.
//!
//! Languages link all of this into every component, used or not. So what reaches nothing is answered without a grant,
//! and what is not answered here ends the call when it is called.

use super::host::{Host, Output};
use super::spec::Grant;
use rand::RngCore;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource};

/// Most that is taken of an output at once. Bytes.
const WRITE_MAX_BYTES: u64 = 64 * 1024;

/// Random bytes that are given at once.
const RANDOM_MAX_BYTES: u64 = 1 << 20;

/// What an import needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It reaches nothing.
    Nothing,
    Log,
    Config,
    Clock,
    Random,
}

impl Need {
    /// Of the import of this name; nothing: there is no such thing here.
    pub(super) fn of(import: &str) -> Option<Self> {
        let (base, version) = import.split_once('@')?;
        match (base, version) {
            ("millpond:function/log", version) if version.starts_with("1.") => Some(Self::Log),
            ("millpond:function/config", version) if version.starts_with("1.") => Some(Self::Config),
            // Types alone: a component that uses them in its own code.
            ("millpond:function/handler", version) if version.starts_with("1.") => Some(Self::Nothing),
            (base, version) if version.starts_with("0.2.") => match base.split_once('/')? {
                ("wasi:cli" | "wasi:io" | "wasi:filesystem", _) => Some(Self::Nothing),
                ("wasi:clocks", _) => Some(Self::Clock),
                ("wasi:random", _) => Some(Self::Random),
                _ => None,
            },
            _ => None,
        }
    }

    /// What to write in the file where it is missing; nothing: it is granted.
    pub(super) fn missing_in(self, grant: &Grant) -> Option<&'static str> {
        let (is_granted, say) = match self {
            Self::Nothing => (true, ""),
            Self::Log => (grant.log, "grant: {log: true}"),
            Self::Config => (grant.config.is_some(), "grant: {config: {NAME: VALUE}}"),
            Self::Clock => (grant.clock, "grant: {clock: true}"),
            Self::Random => (grant.random, "grant: {random: true}"),
        };
        (!is_granted).then_some(say)
    }
}

/// Everything that can be held here is one of the outputs, by its number.
type Handle = Resource<()>;

const STDOUT: u32 = 1;
const STDERR: u32 = 2;

fn output(handle: &Handle) -> Output {
    if handle.rep() == STDERR { Output::Stderr } else { Output::Stdout }
}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Handle),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// Defines an interface of WASI, under the name by which a component imports it. What is left out is defined by the
/// caller so that it ends the call.
pub(super) fn define(linker: &mut Linker<Host>, import: &str) -> wasmtime::Result<()> {
    let base = import.split('@').next().unwrap_or_default();
    let Some(interface) = base.strip_prefix("wasi:") else { return Ok(()) };
    let mut it = linker.instance(import)?;
    match interface {
        "cli/environment" => {
            it.func_wrap("get-environment", |_, (): ()| Ok((Vec::<(String, String)>::new(),)))?;
            it.func_wrap("get-arguments", |_, (): ()| Ok((Vec::<String>::new(),)))?;
            it.func_wrap("initial-cwd", |_, (): ()| Ok((None::<String>,)))
        }
        "cli/exit" => it.func_wrap("exit", |_, (status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
            let how = if status.is_ok() { "success" } else { "failure" };
            Err(wasmtime::Error::msg(format!("it exited with {how} in the middle of a call")))
        }),
        "cli/stdin" => it.func_wrap("get-stdin", |_, (): ()| Ok((Handle::new_own(0),))),
        "cli/stdout" => it.func_wrap("get-stdout", |_, (): ()| Ok((Handle::new_own(STDOUT),))),
        "cli/stderr" => it.func_wrap("get-stderr", |_, (): ()| Ok((Handle::new_own(STDERR),))),
        "cli/terminal-stdin" => it.func_wrap("get-terminal-stdin", |_, (): ()| Ok((None::<Handle>,))),
        "cli/terminal-stdout" => it.func_wrap("get-terminal-stdout", |_, (): ()| Ok((None::<Handle>,))),
        "cli/terminal-stderr" => it.func_wrap("get-terminal-stderr", |_, (): ()| Ok((None::<Handle>,))),
        "filesystem/preopens" => {
            it.func_wrap("get-directories", |_, (): ()| Ok((Vec::<(Handle, String)>::new(),)))
        }
        "io/streams" => streams(&mut it),
        "clocks/wall-clock" => {
            it.func_wrap("now", |_, (): ()| Ok((now(),)))?;
            it.func_wrap("resolution", |_, (): ()| Ok((Datetime { seconds: 0, nanoseconds: 1_000_000 },)))
        }
        "clocks/monotonic-clock" => {
            let since = Instant::now();
            it.func_wrap("now", move |_, (): ()| Ok((nanoseconds(since.elapsed()),)))?;
            it.func_wrap("resolution", |_, (): ()| Ok((1_000_u64,)))
        }
        "random/random" => {
            it.func_wrap("get-random-bytes", |_, (count,): (u64,)| Ok((random_bytes(count)?,)))?;
            it.func_wrap("get-random-u64", |_, (): ()| Ok((rand::rng().next_u64(),)))
        }
        "random/insecure" => {
            it.func_wrap("get-insecure-random-bytes", |_, (count,): (u64,)| Ok((random_bytes(count)?,)))?;
            it.func_wrap("get-insecure-random-u64", |_, (): ()| Ok((rand::rng().next_u64(),)))
        }
        "random/insecure-seed" => it.func_wrap("insecure-seed", |_, (): ()| {
            let mut random = rand::rng();
            Ok(((random.next_u64(), random.next_u64()),))
        }),
        _ => Ok(()),
    }
}

/// The outputs take everything, and inputs are at their end.
fn streams(it: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    it.func_wrap("[method]output-stream.check-write", |_, (_,): (Handle,)| {
        Ok((Ok::<_, StreamError>(WRITE_MAX_BYTES),))
    })?;
    for name in ["write", "blocking-write-and-flush"] {
        let name = format!("[method]output-stream.{name}");
        it.func_wrap(&name, |mut store, (handle, bytes): (Handle, Vec<u8>)| {
            store.data_mut().write(output(&handle), &bytes);
            Ok((Ok::<(), StreamError>(()),))
        })?;
    }
    for name in ["flush", "blocking-flush"] {
        let name = format!("[method]output-stream.{name}");
        it.func_wrap(&name, |_, (_,): (Handle,)| Ok((Ok::<(), StreamError>(()),)))?;
    }
    for name in ["read", "blocking-read"] {
        let name = format!("[method]input-stream.{name}");
        it.func_wrap(&name, |_, (_, _): (Handle, u64)| Ok((Err::<Vec<u8>, _>(StreamError::Closed),)))?;
    }
    Ok(())
}

fn now() -> Datetime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Datetime { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn random_bytes(count: u64) -> wasmtime::Result<Vec<u8>> {
    if count > RANDOM_MAX_BYTES {
        let reason =
            format!("it asked for {count} random bytes, at most {RANDOM_MAX_BYTES} are given at once");
        return Err(wasmtime::Error::msg(reason));
    }
    let mut bytes = vec![0; count as usize];
    rand::rng().fill_bytes(&mut bytes);
    Ok(bytes)
}
