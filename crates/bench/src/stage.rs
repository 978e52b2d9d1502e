//! What a run needs on the broker: made before it, removed after it.

use crate::plan::Plan;
use crate::run::BenchError;
use millpond_amqp_client::{ChannelId, ClientOptions, Connection, ExchangeOptions, QueueOptions};
use millpond_model::table::Table;

/// Exchanges and queues of one run, and the connection that made them.
#[derive(Debug)]
pub(crate) struct Stage {
    connection: Connection,
    channel: ChannelId,
    pub(crate) exchange: String,
    pub(crate) queues: Vec<String>,
}

impl Stage {
    pub(crate) async fn build(plan: &Plan) -> Result<Self, BenchError> {
        let mut connection = connect(plan, "bench").await?;
        let channel = connection.open_channel().await?;
        let run: u32 = rand::random();
        let queues = (0..plan.queues).map(|number| format!("millpond.bench.{run:08x}.{number}")).collect();
        let mut stage = Self { connection, channel, exchange: String::new(), queues };
        match stage.declare(plan, run).await {
            Ok(()) => Ok(stage),
            Err(error) => {
                stage.remove().await;
                Err(error)
            }
        }
    }

    async fn declare(&mut self, plan: &Plan, run: u32) -> Result<(), BenchError> {
        let Self { connection, channel, .. } = self;
        let mut arguments = Table::new();
        if let Some(kind) = &plan.queue_type {
            arguments.push("x-queue-type", kind.as_str());
        }
        // Queues of other types than classic are durable or are not at all.
        let durable = plan.persistent || plan.queue_type.as_deref().is_some_and(|kind| kind != "classic");
        let options = QueueOptions { durable, arguments, ..QueueOptions::default() };
        for queue in &self.queues {
            connection.declare_queue(*channel, queue, &options).await?;
        }
        if plan.is_fanout() {
            let exchange = format!("millpond.bench.{run:08x}");
            connection.declare_exchange(*channel, &exchange, "fanout", &ExchangeOptions::default()).await?;
            self.exchange = exchange;
            for queue in &self.queues {
                connection.bind_queue(*channel, queue, &self.exchange, "", &Table::new()).await?;
            }
        }
        Ok(())
    }

    pub(crate) fn product(&self) -> &str {
        self.connection.product()
    }

    /// Keeps the connection alive while others work.
    pub(crate) async fn idle(&mut self) -> BenchError {
        loop {
            if let Err(error) = self.connection.next().await {
                return error.into();
            }
        }
    }

    /// Removes all of it, as far as the broker lets.
    pub(crate) async fn remove(mut self) {
        for queue in &self.queues {
            let deleted = self.connection.delete_queue(self.channel, queue).await;
            if deleted.is_err_and(|error| !error.is_channel_only()) {
                return;
            }
        }
        if !self.exchange.is_empty() {
            let _ = self.connection.delete_exchange(self.channel, &self.exchange).await;
        }
        let _ = self.connection.close().await;
    }
}

/// A connection with a name that says whose it is.
pub(crate) async fn connect(plan: &Plan, who: &str) -> Result<Connection, BenchError> {
    let options = ClientOptions { name: format!("millpond bench: {who}"), ..ClientOptions::default() };
    Ok(Connection::open(&plan.uri, &options).await?)
}
