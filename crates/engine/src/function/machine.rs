//! Compiles components and calls them.
//!
//! Calls run on a few threads of their own, fewer than the machine has, so that the broker keeps the others. A clock
//! ticks while any call is under way; at each tick a call lets others have its thread, and one whose ticks are used up
//! is ended. Each call has a fresh instance: nothing is left of it for the next.

use super::host::{self, Host};
use super::spec::{Grant, Limits};
use super::wasi::{self, Need};
use super::{Call, CallError};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use wasmtime::component::{Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker, Lower};
use wasmtime::{Config, Engine, Store, Trap, UpdateDeadline};

/// How long a call computes before others have its thread; times are counted in these.
const TICK: Duration = Duration::from_millis(5);

/// What a call may take of its stack; the host's functions have the rest of [`FIBER_STACK_BYTES`].
const WASM_STACK_MAX_BYTES: usize = 1 << 20;

/// The stack of a call.
const FIBER_STACK_BYTES: usize = 2 << 20;

/// The beginning of WebAssembly.
const MAGIC: &[u8] = b"\0asm";

/// What follows in a module that is no component.
const CORE_MODULE: &[u8] = &[1, 0, 0, 0];

/// Longest text of what is wrong with a component. Characters.
const REASON_MAX_CHARS: usize = 500;

/// What a component has to export.
const HANDLER: &str = "millpond:function/handler@1.";

/// Of [`super::Call`], as components get it.
#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct HandlerCall {
    event: String,
    #[component(name = "event-id")]
    event_id: String,
    rule: String,
    #[component(name = "idempotency-key")]
    idempotency_key: String,
}

#[derive(Debug, ComponentType, Lift, Lower)]
#[component(variant)]
enum Failure {
    #[component(name = "final")]
    Final(String),
    #[component(name = "retry")]
    Retry(String),
}

/// What a call is, as its type is checked.
type Handled = (Result<String, Failure>,);

/// How many ticks a call may compute for.
pub(super) fn slices(time: Duration) -> u64 {
    (time.as_nanos().div_ceil(TICK.as_nanos()) as u64).max(1)
}

/// See the module.
pub(super) struct Machine {
    engine: Engine,
    /// Taken when the machine goes.
    runtime: Option<Runtime>,
    ticks: Arc<Ticks>,
    /// Calls that can compute at once.
    pub(super) threads: usize,
}

/// A component that can be called.
pub(super) struct Compiled {
    instance: InstancePre<Host>,
    handle: ComponentExportIndex,
    /// What it imports.
    imports: Vec<(String, Need)>,
}

impl Compiled {
    /// What of its imports was not granted, and how to grant it.
    pub(super) fn missing_in(&self, grant: &Grant) -> Vec<String> {
        let missing = |(import, need): &(String, Need)| {
            let say = need.missing_in(grant)?;
            Some(format!("it imports '{import}', which is not granted: write '{say}' if it may have it"))
        };
        self.imports.iter().filter_map(missing).collect()
    }
}

impl Machine {
    /// Starts its threads; what is wrong if this machine cannot run WebAssembly.
    pub(super) fn start() -> Result<Self, String> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(WASM_STACK_MAX_BYTES)
            .async_stack_size(FIBER_STACK_BYTES);
        let engine = Engine::new(&config).map_err(|error| one_line(&error))?;
        // The broker keeps the other half.
        let threads = (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("millpond-functions")
            .build()
            .map_err(|error| error.to_string())?;
        let ticks = Arc::new(Ticks::default());
        let (of_thread, its_engine) = (ticks.clone(), engine.clone());
        std::thread::Builder::new()
            .name("millpond-ticks".into())
            .spawn(move || of_thread.run(&its_engine))
            .map_err(|error| error.to_string())?;
        Ok(Self { engine, runtime: Some(runtime), ticks, threads })
    }

    /// Compiles a component and links it with what there is; or what is wrong with it. Takes from milliseconds to
    /// seconds.
    pub(super) fn compile(&self, bytes: &[u8]) -> Result<Compiled, String> {
        match bytes.strip_prefix(MAGIC) {
            None => return Err("it is not WebAssembly, expected a component".to_owned()),
            Some(rest) if rest.starts_with(CORE_MODULE) => {
                return Err("it is a core module, expected a component: build it for wasm32-wasip2, or make it one with 'wasm-tools component new'".to_owned());
            }
            Some(_) => {}
        }
        // Else it would take all of the machine's threads.
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .thread_name(|_| "millpond-compile".to_owned())
            .build()
            .map_err(|error| error.to_string())?;
        let component = threads.install(|| Component::from_binary(&self.engine, bytes));
        let component = component.map_err(|error| one_line(&error))?;
        let component_type = component.component_type();
        let mut imports = Vec::new();
        let mut linker = Linker::new(&self.engine);
        for (name, _) in component_type.imports(&self.engine) {
            let Some(need) = Need::of(name) else {
                return Err(format!("it imports '{name}', and there is nothing of that name to be granted"));
            };
            host::define(&mut linker, name).map_err(|error| one_line(&error))?;
            wasi::define(&mut linker, name).map_err(|error| one_line(&error))?;
            imports.push((name.to_owned(), need));
        }
        linker.define_unknown_imports_as_traps(&component).map_err(|error| one_line(&error))?;
        let instance = linker.instantiate_pre(&component).map_err(|error| one_line(&error))?;
        let exports: Vec<_> = component_type.exports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let handle = exports.iter().find(|name| name.starts_with(HANDLER)).and_then(|name| {
            let handler = component.get_export_index(None, name.as_str())?;
            component.get_export_index(Some(&handler), "handle")
        });
        let Some(handle) = handle else {
            let found = if exports.is_empty() { "nothing".to_owned() } else { exports.join("', '") };
            return Err(format!("it exports '{found}', expected '{HANDLER}0' with 'handle'"));
        };
        Ok(Compiled { instance, handle, imports })
    }

    /// Makes an instance and lets it go again; or why that is not possible.
    pub(super) async fn try_out(&self, compiled: Arc<Compiled>, limits: Limits) -> Result<(), CallError> {
        let made = self.spawn(async move {
            let mut store = compiled.store(Host::within(&limits));
            match compiled.ready(&mut store).await {
                Ok(_) => Ok(()),
                Err(error) => Err(broke_off(&error, store, &limits)),
            }
        });
        made.await
    }

    /// Calls a component; the answer's text. Dropping this ends the call at its next tick. `permit` is held until
    /// the call is over.
    pub(super) async fn call(
        &self,
        compiled: Arc<Compiled>,
        (host, limits): (Host, Limits),
        call: Call,
        permit: OwnedSemaphorePermit,
    ) -> Result<String, CallError> {
        let called = self.spawn(async move {
            let _permit = permit;
            let mut store = compiled.store(host);
            let Call { event, event_id, rule, idempotency_key } = call;
            let call = HandlerCall { event, event_id, rule, idempotency_key };
            let handled = match compiled.ready(&mut store).await {
                Ok(handle) => handle.call_async(&mut store, (call,)).await,
                Err(error) => Err(error),
            };
            match handled {
                Err(error) => Err(broke_off(&error, store, &limits)),
                Ok((answer,)) => {
                    store.into_data().finish();
                    judge(answer, &limits)
                }
            }
        });
        called.await
    }

    /// Runs this on the machine's threads, with the clock ticking.
    async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CallError>> + Send + 'static,
    ) -> Result<T, CallError> {
        let Some(runtime) = &self.runtime else {
            return Err(CallError::Unready { reason: "the broker shuts down".to_owned() });
        };
        let ticking = Ticking::start(&self.ticks);
        let mut task = EndOnDrop(runtime.spawn(async move {
            let _ticking = ticking;
            work.await
        }));
        match (&mut task.0).await {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => {
                Err(CallError::Unready { reason: "the broker shuts down".to_owned() })
            }
            Err(error) => Err(CallError::Trapped { reason: format!("a mistake of Millpond's: {error}") }),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.ticks.close();
        if let Some(runtime) = self.runtime.take() {
            // Dropped where nothing may wait.
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled").field("imports", &self.imports).finish_non_exhaustive()
    }
}

type Handle = wasmtime::component::TypedFunc<(HandlerCall,), Handled>;

impl Compiled {
    /// For one call.
    fn store(&self, host: Host) -> Store<Host> {
        let mut store = Store::new(self.instance.engine(), host);
        store.limiter(|host| &mut host.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let host = store.data_mut();
            host.slices_left = host.slices_left.saturating_sub(1);
            host.is_time_over = host.slices_left == 0;
            Ok(if host.is_time_over { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) })
        });
        store
    }

    /// An instance, its function with its type checked.
    async fn ready(&self, store: &mut Store<Host>) -> wasmtime::Result<Handle> {
        let instance = self.instance.instantiate_async(&mut *store).await?;
        instance.get_typed_func::<(HandlerCall,), Handled>(&mut *store, &self.handle)
    }
}

fn judge(answer: Result<String, Failure>, limits: &Limits) -> Result<String, CallError> {
    let cut = |reason: String| reason.chars().take(REASON_MAX_CHARS).collect();
    match answer {
        Ok(text) if text.len() as u64 > limits.output_max_bytes => {
            Err(CallError::OutputOver { bytes: text.len(), output_max_bytes: limits.output_max_bytes })
        }
        Ok(text) => Ok(text),
        Err(Failure::Final(reason)) => Err(CallError::Failed { reason: cut(reason), is_retryable: false }),
        Err(Failure::Retry(reason)) => Err(CallError::Failed { reason: cut(reason), is_retryable: true }),
    }
}

/// Why there is no answer, with what the component wrote to its standard error.
fn broke_off(error: &wasmtime::Error, store: Store<Host>, limits: &Limits) -> CallError {
    let host = store.into_data();
    let (is_time_over, is_memory_over) = (host.is_time_over, host.limiter.is_memory_over);
    let said = host.finish();
    if is_time_over {
        return CallError::TimeOver { time_max: limits.time_max };
    }
    let mut reason = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => one_line(error),
    };
    if !said.trim().is_empty() {
        reason.push_str(&format!("; it wrote: {}", said.trim().escape_debug()));
    }
    match is_memory_over {
        true => CallError::MemoryOver { memory_max_bytes: limits.memory_max_bytes, reason },
        false => CallError::Trapped { reason },
    }
}

fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(REASON_MAX_CHARS).collect()
}

/// Ends a task when nobody waits for it any more.
struct EndOnDrop<T>(JoinHandle<T>);

impl<T> Drop for EndOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The clock of the calls. It stands while there are none.
#[derive(Debug, Default)]
struct Ticks {
    state: Mutex<TicksState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TicksState {
    calls: usize,
    is_closed: bool,
}

impl Ticks {
    #[expect(clippy::disallowed_methods, reason = "a clock that ticks; nothing waits for it to have slept")]
    fn run(&self, engine: &Engine) {
        loop {
            let mut state = self.state.lock();
            while state.calls == 0 && !state.is_closed {
                self.changed.wait(&mut state);
            }
            // What runs still is to come to its next tick.
            if state.is_closed && state.calls == 0 {
                return;
            }
            drop(state);
            std::thread::sleep(TICK);
            engine.increment_epoch();
        }
    }

    fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_one();
    }
}

/// Keeps the clock ticking.
struct Ticking(Arc<Ticks>);

impl Ticking {
    fn start(ticks: &Arc<Ticks>) -> Self {
        let mut state = ticks.state.lock();
        state.calls += 1;
        if state.calls == 1 {
            ticks.changed.notify_one();
        }
        drop(state);
        Self(ticks.clone())
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.state.lock().calls -= 1;
        self.0.changed.notify_one();
    }
}
