//! One message at a time: published, received, published again.

use crate::plan::Plan;
use crate::report::Tally;
use crate::run::{BenchError, Progress};
use crate::stage::connect;
use millpond_amqp_client::{Consume, Event, Publish};
use millpond_model::properties::Properties;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::watch;

/// One connection does both. With a confirm window each round ends with the confirm and the message, in any order.
pub(crate) async fn measure(
    plan: &Plan,
    progress: &Progress,
    queue: &str,
    mut interrupt: watch::Receiver<bool>,
) -> Result<Tally, BenchError> {
    let mut connection = connect(plan, "ping-pong").await?;
    let channel = connection.open_channel().await?;
    let confirms = plan.confirm_window > 0;
    if confirms {
        connection.confirm_select(channel).await?;
    }
    connection.consume(channel, queue, &Consume { no_ack: true, ..Consume::default() }).await?;
    let delivery_mode = plan.persistent.then_some(2);
    let properties = Properties { delivery_mode, ..Properties::default() }.encode().unwrap_or_default();
    let body = vec![0; plan.size_bytes];
    let publish =
        Publish { routing_key: queue.as_bytes(), properties: &properties, body: &body, ..Publish::default() };
    let mut tally = Tally::default();
    let began = Instant::now();
    while began.elapsed() < plan.duration && !tally.interrupted {
        let sent = Instant::now();
        connection.publish(channel, &publish)?;
        progress.published.fetch_add(1, Ordering::Relaxed);
        tally.published += 1;
        let (mut is_back, mut is_confirmed) = (false, !confirms);
        while !(is_back && is_confirmed) {
            let event = tokio::select! {
                biased;
                event = connection.next() => event?,
                _ = interrupt.wait_for(|it| *it) => {
                    tally.interrupted = true;
                    break;
                }
            };
            let took_ns = sent.elapsed().as_nanos() as u64;
            match event {
                Event::Delivery(_) => {
                    tally.latency.record(took_ns);
                    tally.received += 1;
                    progress.received.fetch_add(1, Ordering::Relaxed);
                    is_back = true;
                }
                Event::Confirm(confirm) => {
                    tally.confirm_latency.record(took_ns);
                    match confirm.is_ack {
                        true => tally.confirmed += 1,
                        // It will not come either.
                        false => (tally.refused, is_back) = (tally.refused + 1, true),
                    }
                    is_confirmed = true;
                }
                Event::ChannelClosed { code, text, .. } => {
                    return Err(BenchError::Channel { who: "ping-pong", code, text });
                }
                _ => {}
            }
        }
    }
    tally.publish = began.elapsed();
    tally.receive = tally.publish;
    tally.missing = tally.published.saturating_sub(tally.received + tally.refused);
    let _ = connection.close().await;
    Ok(tally)
}
