//! Evaluating jq for a source, on a thread of its own: an expression can take long and needs a deep stack, and the
//! runtime's threads serve everybody.

use super::SourceError;
use crate::jq::STACK_BYTES;
use std::sync::mpsc;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// The thread, started by the first job; it ends when this is dropped and its job is done.
#[derive(Debug, Default)]
pub(crate) struct Thinker(Option<mpsc::Sender<Job>>);

impl Thinker {
    /// What `work` gives, one job at a time.
    pub(crate) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SourceError> {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The source may have been stopped meanwhile.
            let _ = done.send(work());
        });
        let sender = match &self.0 {
            Some(sender) => sender.clone(),
            None => start()?,
        };
        if sender.send(job).is_err() {
            self.0 = None;
            return Err(broken());
        }
        self.0 = Some(sender);
        result.await.map_err(|_| {
            self.0 = None;
            broken()
        })
    }
}

fn broken() -> SourceError {
    SourceError::new("the evaluation of an expression broke off")
}

fn start() -> Result<mpsc::Sender<Job>, SourceError> {
    let (sender, jobs) = mpsc::channel::<Job>();
    let thread = std::thread::Builder::new().name("millpond-source".into()).stack_size(STACK_BYTES);
    thread
        .spawn(move || jobs.into_iter().for_each(|job| job()))
        .map_err(|error| SourceError::new(format!("no thread for the expressions of a source: {error}")))?;
    Ok(sender)
}
