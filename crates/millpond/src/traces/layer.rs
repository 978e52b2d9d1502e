//! `tracing`'s spans become ours.

use super::export::Queue;
use super::span::{Attribute, Place, Span, now_ns};
use std::fmt::Debug;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

/// Fields that are not attributes: what a span is called, whether somebody outside asked for it, whether it failed,
/// and the caller's place.
const NAME: &str = "otel.name";
const KIND: &str = "otel.kind";
const FAILED: &str = "otel.failed";
const TRACEPARENT: &str = "traceparent";

/// See the module.
#[derive(Debug)]
pub(crate) struct SpanLayer {
    queue: Queue,
    share: f64,
}

impl SpanLayer {
    /// A share from 0 to 1 of the traces that begin here is sent.
    pub(super) fn new(queue: Queue, share: f64) -> Self {
        Self { queue, share }
    }

    /// Which spans are traces.
    pub(crate) fn traces() -> Targets {
        Targets::new().with_target(super::TARGET, Level::INFO)
    }

    /// What is not a trace, for the log.
    pub(crate) fn others<S>() -> impl Filter<S> {
        filter_fn(|metadata| metadata.target() != super::TARGET)
    }
}

/// The fields of a span, as they come.
struct Fields<'a> {
    span: &'a mut Span,
    caller: Option<Place>,
}

impl Fields<'_> {
    fn take(&mut self, field: &Field, value: Attribute) {
        match (field.name(), &value) {
            (NAME, Attribute::Text(text)) => self.span.name = text.clone(),
            (KIND, Attribute::Text(text)) => self.span.is_server = text == "server",
            (FAILED, Attribute::Bool(failed)) => self.span.failed = *failed,
            (TRACEPARENT, Attribute::Text(text)) => self.caller = Place::of_traceparent(text),
            (key, _) => self.span.set(key, value),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Attribute::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Attribute::Int(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Attribute::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, Attribute::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, Attribute::Text(format!("{value:?}")));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let Some(entry) = ctx.span(id) else { return };
        let above = entry.parent().and_then(|it| it.extensions().get::<Span>().map(|span| span.place));
        let mut span = Span {
            place: above.map_or_else(|| Place::first(self.share), |it| it.below()),
            name: attributes.metadata().name().to_owned(),
            is_server: false,
            failed: false,
            start_ns: now_ns(),
            end_ns: 0,
            attributes: Vec::new(),
        };
        let mut fields = Fields { span: &mut span, caller: None };
        attributes.record(&mut fields);
        if let (None, Some(caller)) = (above, fields.caller) {
            span.place = caller.below();
        }
        entry.extensions_mut().insert(span);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let Some(entry) = ctx.span(id) else { return };
        if let Some(span) = entry.extensions_mut().get_mut::<Span>() {
            values.record(&mut Fields { span, caller: None });
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        let Some(entry) = ctx.span(&id) else { return };
        let Some(mut span) = entry.extensions_mut().remove::<Span>() else { return };
        span.end_ns = now_ns();
        if span.place.is_sampled {
            self.queue.put(span);
        }
    }
}
