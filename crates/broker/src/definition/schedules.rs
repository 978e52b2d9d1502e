//! Records of schedules, and how far each has come. Layouts in the module above.

use super::{Reader, VERSION, key, put_name};
use crate::schedules::{Missed, ScheduleSpec};
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::{ExchangeName, VhostName};

/// Prefixes of the keys.
pub(crate) const SCHEDULES: &[u8] = b"cr/";
pub(crate) const SCHEDULE_STATES: &[u8] = b"cs/";

const PAUSED: u8 = 1;

/// How far a schedule has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScheduleState {
    /// What was due up to here is done.
    pub(crate) mark_ms: u64,
    /// The last moment that got a message.
    pub(crate) last_ms: Option<u64>,
    pub(crate) paused: bool,
}

impl ScheduleState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, if self.paused { PAUSED } else { 0 }];
        out.extend_from_slice(&self.mark_ms.to_be_bytes());
        out.extend_from_slice(&self.last_ms.unwrap_or(0).to_be_bytes());
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, String> {
        let mut rest = Reader::of_version(value)?;
        let paused = rest.flags(PAUSED)? != 0;
        let mark_ms = rest.u64()?;
        Ok(Self { paused, mark_ms, last_ms: Some(rest.u64()?).filter(|last_ms| *last_ms > 0) })
    }
}

pub(crate) fn schedule_key(vhost: &VhostName, name: &str) -> Vec<u8> {
    [&key(SCHEDULES, vhost), name.as_bytes()].concat()
}

pub(crate) fn schedule_state_key(vhost: &VhostName, name: &str) -> Vec<u8> {
    [&key(SCHEDULE_STATES, vhost), name.as_bytes()].concat()
}

/// The properties were checked: they have an encoding.
pub(crate) fn encode_schedule(spec: &ScheduleSpec) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_name(&mut out, spec.missed.as_str().as_bytes());
    put_name(&mut out, spec.cron.as_bytes());
    put_name(&mut out, spec.zone.as_bytes());
    put_name(&mut out, spec.exchange.as_str().as_bytes());
    put_name(&mut out, &spec.routing_key);
    let properties = spec.properties.encode().unwrap_or_else(|_| vec![0, 0]);
    out.extend_from_slice(&(properties.len() as u32).to_be_bytes());
    out.extend_from_slice(&properties);
    out.extend_from_slice(&spec.body);
    out
}

pub(crate) fn decode_schedule(name: &[u8], value: &[u8]) -> Result<ScheduleSpec, String> {
    let mut rest = Reader::of_version(value)?;
    let missed = rest.text()?;
    let missed =
        Missed::parse(missed).ok_or_else(|| format!("'{missed}' is no way to treat what was missed"))?;
    let cron = rest.text()?.into();
    let zone = rest.text()?.into();
    let exchange = ExchangeName::from_bytes(rest.name()?).map_err(|e| e.to_string())?;
    let routing_key = rest.name()?.into();
    let length = rest.take(4)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let properties = RawProperties::parse(rest.take(length)?).map_err(|e| e.to_string())?;
    Ok(ScheduleSpec {
        name: std::str::from_utf8(name).map_err(|e| e.to_string())?.into(),
        cron,
        zone,
        exchange,
        routing_key,
        properties: Properties::from(properties),
        body: rest.0.into(),
        missed,
    })
}
