//! In the place of functions where there is no WebAssembly. A topology that has any is refused when it is read.

use super::{Call, CallError};
use crate::action::{ActionError, Answer};
use crate::apply::ApplyError;
use crate::secret::Secrets;
use crate::topology::Topology;
use std::path::PathBuf;

/// No functions.
#[derive(Debug, Clone)]
pub(crate) struct Functions;

#[expect(clippy::unused_async, reason = "as where there are functions")]
impl Functions {
    pub(crate) fn new(_data_dir: PathBuf) -> Self {
        Self
    }

    pub(crate) async fn look(&self, _topology: &mut Topology) -> Vec<String> {
        Vec::new()
    }

    pub(crate) async fn keep(&self, _topology: &Topology) -> Result<(), ApplyError> {
        Ok(())
    }

    pub(crate) fn define(&self, _topology: &Topology) {}

    pub(crate) async fn sweep(&self) {}

    pub(crate) async fn call(&self, place: &str, name: &str, _call: Call, _secrets: &Secrets) -> Answer {
        let (place, function) = (place.to_owned(), name.to_owned());
        Err(ActionError::Function { place, function, error: CallError::Missing })
    }
}
