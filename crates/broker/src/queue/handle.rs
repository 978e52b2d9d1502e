//! A queue as the router knows it.

use super::QueueCell;
use std::sync::Arc;

/// A cell as the router's handle: equal only to itself.
#[derive(Debug, Clone)]
pub(crate) struct QueueHandle(pub(crate) Arc<QueueCell>);

impl PartialEq for QueueHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for QueueHandle {}

impl std::hash::Hash for QueueHandle {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.0) as usize).hash(state);
    }
}
