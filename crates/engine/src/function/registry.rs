//! Which function has which component. A component that was applied is kept beside the topology, so that what runs is
//! what was applied, whatever becomes of the file.

use super::host::Host;
use super::machine::{Compiled, Machine};
use super::spec::FunctionSpec;
use super::{Call, CallError, Digests};
use crate::action::{ActionError, Answer};
use crate::apply::ApplyError;
use crate::secret::{Scrub, Secrets};
use crate::topology::Topology;
use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tokio::sync::{OnceCell, Semaphore};

/// Largest component. Bytes.
const COMPONENT_MAX_BYTES: u64 = 64 << 20;

/// Where components are kept, in the data directory; each by its digest.
const KEPT: &str = "components";

/// How digests begin.
const DIGEST_PREFIX: &str = "sha256:";

/// The functions of the topology. Cloning counts a reference.
#[derive(Debug, Clone)]
pub(crate) struct Functions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    data_dir: PathBuf,
    /// Started when the first function comes.
    machine: OnceLock<Result<Arc<Machine>, String>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By digest: those of the topology, and those that were looked at last.
    codes: BTreeMap<Arc<str>, Arc<Code>>,
    defined: BTreeMap<Box<str>, Arc<Function>>,
}

/// A component.
#[derive(Debug)]
struct Code {
    digest: Arc<str>,
    /// Until it is kept.
    bytes: Mutex<Option<Arc<[u8]>>>,
    compiled: OnceCell<Arc<Compiled>>,
}

/// What a function of the topology is called by.
#[derive(Debug)]
struct Function {
    spec: Arc<FunctionSpec>,
    code: Arc<Code>,
    /// A function that takes long has a share of the machine's threads, and not all that wait for them.
    permits: Arc<Semaphore>,
}

impl Code {
    fn new(digest: Arc<str>, bytes: Option<Arc<[u8]>>) -> Self {
        Self { digest, bytes: Mutex::new(bytes), compiled: OnceCell::new() }
    }
}

impl Functions {
    /// Of a data directory.
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        Self(Arc::new(Shared { data_dir, machine: OnceLock::new(), state: Mutex::default() }))
    }

    /// Reads and compiles the components of a topology, and tells it their digests. What is wrong with them, one line
    /// each.
    pub(crate) async fn look(&self, topology: &mut Topology) -> Vec<String> {
        let (mut refused, mut digests) = (Vec::new(), Digests::new());
        for spec in &topology.functions {
            match self.look_at(spec).await {
                Ok(digest) => {
                    digests.insert(spec.name.clone(), digest);
                }
                Err(reasons) => {
                    let path = format!("{}: functions.{}", spec.place, spec.name);
                    refused.extend(reasons.into_iter().map(|reason| format!("{path}: {reason}")));
                }
            }
        }
        self.0.state.lock().forget_all_but(&digests);
        topology.set_digests(digests);
        refused
    }

    /// The digest of a component that can be used; or all that is wrong.
    async fn look_at(&self, spec: &FunctionSpec) -> Result<Arc<str>, Vec<String>> {
        let path = self.0.data_dir.join(&*spec.component);
        let shown = path.display().to_string();
        let of_file = |reason: String| vec![format!("the component {shown}: {reason}")];
        let (digest, bytes) = aside(move || read(&path)).await.map_err(of_file)?;
        let code = {
            let mut state = self.0.state.lock();
            let new = || Arc::new(Code::new(digest.clone(), Some(bytes)));
            state.codes.entry(digest.clone()).or_insert_with(new).clone()
        };
        let compiled = self.compiled(&code).await.map_err(of_file)?;
        let missing = compiled.missing_in(&spec.grant);
        if !missing.is_empty() {
            return Err(missing
                .into_iter()
                .map(|reason| format!("the component {shown}: {reason}"))
                .collect());
        }
        let machine = self.machine().map_err(of_file)?;
        machine.try_out(compiled, spec.limits).await.map_err(|error| of_file(error.to_string()))?;
        Ok(digest)
    }

    /// Puts the components of a topology beside it, durably.
    pub(crate) async fn keep(&self, topology: &Topology) -> Result<(), ApplyError> {
        for spec in &topology.functions {
            let Some(digest) = topology.digests.get(&spec.name) else { continue };
            let code = self.0.state.lock().codes.get(digest).cloned();
            let Some((code, bytes)) = code.and_then(|code| {
                let bytes = code.bytes.lock().clone()?;
                Some((code, bytes))
            }) else {
                continue;
            };
            let path = self.kept_path(digest);
            aside(move || write(&path, &bytes)).await.map_err(|reason| ApplyError::Component {
                place: format!("{}: functions.{}.component", spec.place, spec.name),
                reason,
            })?;
            code.bytes.lock().take();
        }
        Ok(())
    }

    /// Works with what this topology says from now on; must be called inside a tokio runtime. What is not compiled
    /// yet is compiled from what was kept.
    pub(crate) fn define(&self, topology: &Topology) {
        if topology.functions.is_empty() && self.0.state.lock().defined.is_empty() {
            return;
        }
        let threads = self.machine().map_or(1, |machine| machine.threads);
        let mut defined = BTreeMap::new();
        let mut state = self.0.state.lock();
        for spec in &topology.functions {
            let Some(digest) = topology.digests.get(&spec.name) else { continue };
            let new = || Arc::new(Code::new(digest.clone(), None));
            let code = state.codes.entry(digest.clone()).or_insert_with(new).clone();
            if !code.compiled.initialized() {
                let (it, code) = (self.clone(), code.clone());
                tokio::spawn(async move {
                    if let Err(reason) = it.compiled(&code).await {
                        tracing::error!(component = %code.digest, reason, "a component cannot be used");
                    }
                });
            }
            let permits = Arc::new(Semaphore::new(threads));
            defined.insert(spec.name.clone(), Arc::new(Function { spec: spec.clone(), code, permits }));
        }
        state.defined = defined;
        state.forget_all_but(&topology.digests);
    }

    /// Takes away kept components that no function has any more.
    pub(crate) async fn sweep(&self) {
        let folder = self.0.data_dir.join(KEPT);
        let used: BTreeSet<_> =
            self.0.state.lock().defined.values().map(|it| file_name(&it.code.digest)).collect();
        let swept = aside(move || {
            let Ok(found) = std::fs::read_dir(&folder) else { return Ok(()) };
            for entry in found {
                let entry = entry.map_err(|error| error.to_string())?;
                if entry.file_name().to_str().is_none_or(|name| !used.contains(name)) {
                    std::fs::remove_file(entry.path()).map_err(|error| error.to_string())?;
                }
            }
            Ok(())
        });
        if let Err(reason) = swept.await {
            tracing::warn!(reason, "kept components that nobody needs could not be removed");
        }
    }

    /// Calls a function; `place` is that of the action.
    pub(crate) async fn call(&self, place: &str, name: &str, call: Call, secrets: &Secrets) -> Answer {
        let failed =
            |error| ActionError::Function { place: place.to_owned(), function: name.to_owned(), error };
        let unready = |reason| failed(CallError::Unready { reason });
        let function = self.0.state.lock().defined.get(name).cloned();
        let function = function.ok_or_else(|| failed(CallError::Missing))?;
        let mut scrub = Scrub::default();
        let mut config = Vec::new();
        for (name, text) in function.spec.grant.config.iter().flatten() {
            let value = text.resolve(secrets).await.map_err(|error| ActionError::Secret {
                place: place.to_owned(),
                reason: error.to_string(),
            })?;
            scrub.add(&value);
            config.push((name.clone(), value.expose().to_owned()));
        }
        let compiled = self.compiled(&function.code).await.map_err(unready)?;
        // Seen when it was applied; a later version of Millpond may see it otherwise.
        if let Some(reason) = compiled.missing_in(&function.spec.grant).pop() {
            return Err(unready(reason));
        }
        let machine = self.machine().map_err(unready)?;
        let closed = |_| unready("the broker shuts down".to_owned());
        let permit = function.permits.clone().acquire_owned().await.map_err(closed)?;
        let scrub = Arc::new(scrub);
        let host = Host::new(&function.spec, &call, config, scrub.clone());
        let answer = machine.call(compiled, (host, function.spec.limits), call, permit).await;
        let text = answer.map_err(|error| failed(error.scrubbed(&scrub)))?;
        let answer = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(scrub.json(answer))
    }

    /// Compiles a component if that was not done; or why it cannot be. Asked again, it is tried again.
    async fn compiled(&self, code: &Arc<Code>) -> Result<Arc<Compiled>, String> {
        let compile = || async {
            let machine = self.machine()?;
            let bytes = code.bytes.lock().clone();
            let (path, wanted) = (self.kept_path(&code.digest), code.digest.clone());
            aside(move || {
                let bytes = match bytes {
                    Some(bytes) => bytes,
                    None => match read(&path)? {
                        (found, bytes) if found == wanted => bytes,
                        _ => return Err(format!("{} was changed by somebody", path.display())),
                    },
                };
                machine.compile(&bytes).map(Arc::new)
            })
            .await
        };
        code.compiled.get_or_try_init(compile).await.cloned()
    }

    fn machine(&self) -> Result<Arc<Machine>, String> {
        self.0.machine.get_or_init(|| Machine::start().map(Arc::new)).clone()
    }

    fn kept_path(&self, digest: &str) -> PathBuf {
        self.0.data_dir.join(KEPT).join(file_name(digest))
    }
}

impl State {
    /// Keeps what is defined, and these.
    fn forget_all_but(&mut self, digests: &Digests) {
        let defined: BTreeSet<_> = self.defined.values().map(|it| it.code.digest.clone()).collect();
        let looked_at: BTreeSet<_> = digests.values().collect();
        self.codes.retain(|digest, _| defined.contains(digest) || looked_at.contains(digest));
    }
}

fn file_name(digest: &str) -> String {
    format!("{}.wasm", digest.trim_start_matches(DIGEST_PREFIX))
}

/// Work that takes a while, away from the runtime's threads.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(format!("it broke off: {error}")))
}

/// A component with its digest.
fn read(path: &Path) -> Result<(Arc<str>, Arc<[u8]>), String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(COMPONENT_MAX_BYTES + 1).read_to_end(&mut bytes);
    if read.map_err(|error| error.to_string())? as u64 > COMPONENT_MAX_BYTES {
        return Err(format!("it has more than {COMPONENT_MAX_BYTES} bytes, expected a smaller one"));
    }
    let digest = digest(&SHA256, &bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((format!("{DIGEST_PREFIX}{hex}").into(), bytes.into()))
}

/// Whole, or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let written = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    };
    written().map_err(|error| format!("{}: {error}", path.display()))
}
