//! Has the broker look for queues that are stuck, and tells a person what it found.

use millpond_broker::{Broker, StuckReport};
use std::time::Duration;

/// "No delivery for a second" needs two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Looks again and again, until the task is dropped.
pub(crate) async fn run(broker: Broker) {
    loop {
        tokio::time::sleep(EVERY).await;
        broker.look_for_stuck_queues();
    }
}

/// The report as lines: how often since the start, and the queues that still are.
pub(crate) fn report_text(report: &StuckReport) -> String {
    let mut lines = vec![format!("stuck since the start: {}", report.total)];
    lines.extend(report.now.iter().map(|it| {
        format!(
            "{} in {}: {}; {} ready, {} consumers with credit",
            it.queue, it.vhost, it.cause, it.ready, it.consumers_with_credit
        )
    }));
    lines.join("\n")
}

/// The same for a program.
pub(crate) fn report_json(report: &StuckReport) -> serde_json::Value {
    let now = report.now.iter().map(|it| {
        serde_json::json!({
            "queue": it.queue.as_str(),
            "vhost": it.vhost.as_str(),
            "cause": it.cause.to_string(),
            "ready": it.ready,
            "consumers_with_credit": it.consumers_with_credit,
        })
    });
    serde_json::json!({ "total": report.total, "now": now.collect::<Vec<_>>() })
}
