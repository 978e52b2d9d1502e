//! Messages brought from queue to queue at a rate: for HTTP and for the control socket.

use crate::progress::Progress;
use millpond_broker::{Browsed, Transfer, TransferError, TransferReport, WriteRefused};
use serde_json::{Value, json};
use std::future::poll_fn;
use std::time::Duration;
use tokio::time::Instant;

/// Messages moved in one go where no rate is given.
const CHUNK: usize = 256;

/// Does all of it, at most `rate` messages a second; durable when this returns. With the first messages of a dry run.
pub async fn run(
    mut transfer: Transfer,
    rate: Option<u32>,
    progress: &Progress,
) -> Result<(TransferReport, Vec<Browsed>), TransferError> {
    // One commit a tenth of a second keeps a rate evenly enough.
    let count = rate.map_or(CHUNK, |rate| (rate as usize).div_ceil(10));
    let rate = rate.filter(|_| !transfer.is_dry_run());
    let started = Instant::now();
    while poll_fn(|cx| transfer.poll_step(cx, count)).await? {
        progress.set_done(transfer.report().looked_at);
        if let Some(rate) = rate {
            let due = transfer.report().moved_count() as f64 / f64::from(rate);
            tokio::time::sleep_until(started + Duration::from_secs_f64(due)).await;
        }
    }
    let (report, preview) = (transfer.report().clone(), transfer.preview().to_vec());
    transfer.saved().await.map_err(WriteRefused::Store)?;
    Ok((report, preview))
}

/// What a transfer did, or would do: `moved`, `looked_at`, `targets` and, by the reason, what `stayed`.
pub fn count_json(report: &TransferReport, dry_run: bool) -> Value {
    let target = |(queue, messages): (&millpond_model::QueueName, &u64)| json!({ "queue": queue.as_str(), "messages": messages });
    let stayed = |(reason, messages): (&String, &u64)| json!({ "reason": reason, "messages": messages });
    json!({
        "dry_run": dry_run,
        "looked_at": report.looked_at,
        "moved": report.moved_count(),
        "targets": report.moved.iter().map(target).collect::<Vec<_>>(),
        "stayed": report.stayed.iter().map(stayed).collect::<Vec<_>>(),
    })
}
