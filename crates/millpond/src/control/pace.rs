//! How a queue keeps its pace, for a person.

use millpond_broker::{ConsumerFigures, GroupFigures, PaceFigures, QueueFigures};

/// Lines that follow what a queue is: what waits, what was promised and delivered, and its consumers.
pub(super) fn figures_text(figures: &QueueFigures) -> String {
    let promised =
        figures.promised_per_s.map_or_else(|| "as fast as they can".to_owned(), |n| format!("{n}/s"));
    let mut lines =
        vec![format!("waiting          {}", figures.waiting), format!("promised         {promised}")];
    if let Some(pace) = &figures.pace {
        lines.push(format!("queue's pace     {}", pace_text(pace)));
    }
    if let Some(per_s) = figures.publish_rate_per_s {
        lines.push(format!("publish rate     {per_s}/s"));
    }
    if let Some(groups) = &figures.groups {
        let GroupFigures { in_use, looked_at, window } = groups;
        lines.push(format!(
            "groups           {in_use} in use, {looked_at} of at most {window} messages looked at"
        ));
    }
    if let Some(ms) = figures.drain_ms {
        lines.push(format!("empty in         {:.1} s", ms as f64 / 1000.0));
    }
    lines.extend(figures.consumers.iter().map(|it| format!("consumer         {}", consumer_text(it))));
    lines.join("\n")
}

fn pace_text(pace: &PaceFigures) -> String {
    let delivered = pace.delivered_per_s.map_or_else(|| "not known yet".to_owned(), |n| format!("{n}/s"));
    format!("{}/s over {} ms, delivered {delivered}", pace.promised_per_s, pace.window_ms)
}

fn consumer_text(consumer: &ConsumerFigures) -> String {
    let state = if consumer.active { "active" } else { "standing by" };
    let mut text = format!("{} {state}, {} unacked", consumer.tag, consumer.unacked);
    if let Some(pace) = &consumer.pace {
        text = format!("{text}, {}", pace_text(pace));
    }
    if let Some(ms) = consumer.lease_ms {
        text = format!("{text}, leases of {ms} ms");
    }
    text
}
