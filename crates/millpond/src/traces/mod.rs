//! Traces of the management side, for a collector that speaks OTLP: which request did what, and how long it took.
//!
//! | File | Does |
//! |---|---|
//! | `layer` | makes spans of `tracing`'s, those of the target [`TARGET`] alone |
//! | `span` | what a span is, its place in a trace, W3C traceparent |
//! | `otlp` | spans as OTLP's protobuf |
//! | `export` | a bounded queue, and the task that sends |

mod export;
mod layer;
mod otlp;
mod span;

pub(crate) use export::Exporter;
pub(crate) use layer::SpanLayer;

/// Of the spans that are traces; the log does not show them.
pub(crate) const TARGET: &str = "millpond::trace";
