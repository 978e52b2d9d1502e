//! Which messages a reader passes over.

use super::arguments::Filter;
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_model::table::RawValue;

/// The header that a publisher gives messages which are to be filtered.
const FILTER_VALUE: &str = "x-stream-filter-value";

impl Filter {
    /// Whether a message is wanted.
    pub(super) fn wants(&self, message: &Message) -> bool {
        let headers = RawProperties::from_checked(message.properties()).headers();
        match headers.and_then(|headers| headers.get(FILTER_VALUE)) {
            Some(RawValue::LongStr(value)) => self.values.iter().any(|wanted| **wanted == *value),
            _ => self.unfiltered,
        }
    }
}
