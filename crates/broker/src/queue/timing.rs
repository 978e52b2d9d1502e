//! The arguments about time that queues and consumers share: leases, paces, delayed retries.

use super::arguments::BadArgument;
use super::machine::{Backoff, Rate, Retry, RetryOn, TimedSettings};
use millpond_model::table::{Table, Value};

/// Longest lease, and longest delay of a retry: a year. Milliseconds.
const MILLISECONDS_MAX: u64 = 365 * 24 * 3600 * 1000;

fn bad<T>(argument: &'static str, reason: String) -> Result<T, BadArgument> {
    Err(BadArgument { argument, reason })
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::F32(v) => Some(f64::from(*v)),
        Value::F64(v) => Some(*v),
        Value::Decimal { scale, value } => Some(f64::from(*value) / 10_f64.powi(i32::from(*scale))),
        other => other.as_i64().map(|v| v as f64),
    }
}

fn milliseconds(arguments: &Table, name: &'static str) -> Result<Option<u64>, BadArgument> {
    let Some(value) = arguments.get(name) else { return Ok(None) };
    match value.as_i64().map(u64::try_from) {
        Some(Ok(ms)) if ms <= MILLISECONDS_MAX => Ok(Some(ms)),
        Some(_) => bad(name, format!("it must be within 0..={MILLISECONDS_MAX} ms")),
        None => bad(name, format!("unacceptable type {}: an integer is needed", value.type_name())),
    }
}

/// `x-consumer-timeout`: how long a delivery may stay unsettled; 0: for ever.
pub(crate) fn lease_ms(arguments: &Table) -> Result<Option<u64>, BadArgument> {
    milliseconds(arguments, "x-consumer-timeout")
}

/// `x-rate` and `x-rate-window`.
pub(crate) fn rate(arguments: &Table) -> Result<Option<Rate>, BadArgument> {
    let (min, max) = (*Rate::WINDOW_MS.start(), *Rate::WINDOW_MS.end());
    let window_ms = match milliseconds(arguments, "x-rate-window")? {
        None => Rate::WINDOW_MS_DEFAULT,
        Some(_) if arguments.get("x-rate").is_none() => {
            return bad("x-rate-window", "it needs x-rate beside it".to_owned());
        }
        Some(ms) => match u32::try_from(ms).ok().filter(|ms| Rate::WINDOW_MS.contains(ms)) {
            Some(ms) => ms,
            None => return bad("x-rate-window", format!("value {ms} is not within {min}..={max} ms")),
        },
    };
    let per_s = messages_per_s(arguments, "x-rate")?;
    Ok(per_s.and_then(|per_s| Rate::new(per_s, window_ms)))
}

/// `x-publish-rate`: messages a second that publishers are held to.
pub(crate) fn publish_rate_per_s(arguments: &Table) -> Result<Option<f64>, BadArgument> {
    messages_per_s(arguments, "x-publish-rate")
}

/// A number of messages a second, within the bounds of [`Rate`].
fn messages_per_s(arguments: &Table, name: &'static str) -> Result<Option<f64>, BadArgument> {
    let Some(value) = arguments.get(name) else { return Ok(None) };
    let Some(per_s) = number(value) else {
        let reason =
            format!("unacceptable type {}: a number of messages a second is needed", value.type_name());
        return bad(name, reason);
    };
    let (min, max) = (Rate::PER_S_MIN, Rate::PER_S_MAX);
    if (min..=max).contains(&per_s) {
        Ok(Some(per_s))
    } else {
        bad(name, format!("value {per_s} is not within {min}..={max} messages a second"))
    }
}

/// `x-delayed-retry-*`: RabbitMQ 4.3's three, and how the delay grows and scatters.
fn retry(arguments: &Table) -> Result<Option<Retry>, BadArgument> {
    let min_ms = milliseconds(arguments, "x-delayed-retry-min")?;
    let max_ms = milliseconds(arguments, "x-delayed-retry-max")?;
    let text = |name: &str| arguments.get(name).and_then(Value::as_str);
    let backoff = match text("x-delayed-retry-backoff") {
        Some("fixed") => Backoff::Fixed,
        Some("exponential") => Backoff::Exponential,
        _ => Backoff::Linear,
    };
    let on = match text("x-delayed-retry-type") {
        Some("all") => RetryOn::All,
        Some("failed") => RetryOn::Failed,
        Some("returned") => RetryOn::Returned,
        _ => return Ok(None),
    };
    let Some(min_ms) = min_ms else {
        return bad("x-delayed-retry-type", "it needs x-delayed-retry-min beside it".to_owned());
    };
    if backoff == Backoff::Exponential && max_ms.is_none() {
        return bad("x-delayed-retry-backoff", "exponential needs x-delayed-retry-max beside it".to_owned());
    }
    let max_ms = max_ms.unwrap_or(min_ms);
    if max_ms < min_ms {
        let reason = format!("value {max_ms} is below x-delayed-retry-min, which is {min_ms}");
        return bad("x-delayed-retry-max", reason);
    }
    let jitter = arguments.get("x-delayed-retry-jitter").and_then(Value::as_i64).unwrap_or(0);
    Ok(Some(Retry { on, backoff, min_ms, max_ms, jitter_percent: jitter.clamp(0, 100) as u8 }))
}

/// Whether a queue's arguments fit together.
pub(crate) fn check_queue(arguments: &Table) -> Result<(), BadArgument> {
    lease_ms(arguments)?;
    rate(arguments)?;
    publish_rate_per_s(arguments)?;
    retry(arguments).map(|_| ())
}

/// What a queue's arguments ask for. Merged with policies they may not fit together (a kind of retry without a delay):
/// what does not is left out.
pub(crate) fn of_queue(arguments: &Table) -> TimedSettings {
    TimedSettings {
        lease_ms: lease_ms(arguments).ok().flatten().filter(|ms| *ms != 0),
        rate: rate(arguments).ok().flatten(),
        retry: retry(arguments).ok().flatten(),
    }
}
