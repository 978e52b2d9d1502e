//! The engine at the HTTP front end's door: what it is asked there in terms of [`Engine`], and its errors in the
//! front end's.

use crate::control::{PeriodText, replay_from};
use millpond_broker::Broker;
use millpond_engine::{
    ApplyError, Diagnostic, Engine, ReplayError, ReplayRequest, RuleDetail, RuleError, RuleStatus,
    RuleVersion, SourceError, SourceStatus, TopologyError, choose,
};
use millpond_server::{
    ChooseRequest, Chosen, EngineAnswer, EngineChoice, EngineDoor, EngineRefused, EngineReplay,
    EngineRequest, RuleChange,
};
use serde_json::{Value, json};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct EngineRoom {
    engine: Engine,
    broker: Broker,
}

impl EngineRoom {
    pub(crate) fn new(engine: Engine, broker: Broker) -> Self {
        Self { engine, broker }
    }
}

impl EngineDoor for EngineRoom {
    fn ask(&self, request: EngineRequest) -> EngineAnswer {
        let this = self.clone();
        Box::pin(async move {
            // A client that goes away must not leave a topology half applied.
            let work = tokio::spawn(async move { this.carry_out(request).await });
            work.await.unwrap_or_else(|error| Err(EngineRefused::Unavailable(error.to_string())))
        })
    }

    fn choose(&self, request: ChooseRequest) -> EngineChoice {
        Box::pin(async move {
            let ChooseRequest { expression, vhost, queue, messages, until } = request;
            let work = move || choose(&expression, (vhost.as_str(), queue.as_str()), &messages, until);
            let chosen = tokio::task::spawn_blocking(work).await;
            let chosen =
                chosen.map_err(|error| EngineRefused::Unavailable(error.to_string()))?.map_err(invalid)?;
            Ok(Chosen { fits: chosen.fits, failed: chosen.failed, error: chosen.error })
        })
    }
}

impl EngineRoom {
    async fn carry_out(&self, request: EngineRequest) -> Result<Value, EngineRefused> {
        let engine = &self.engine;
        Ok(match request {
            EngineRequest::Rules => engine.rules().iter().map(RuleStatus::to_json).collect(),
            EngineRequest::Rule(rule) => {
                engine.rule(&rule).as_ref().map(RuleDetail::to_json).map_err(of_rule)?
            }
            EngineRequest::ChangeRule(rule, change) => self.change_rule(&rule, change).await?,
            EngineRequest::RuleHistory(rule) => engine
                .rule_history(&rule)
                .map_err(|e| of_rule(&e))?
                .iter()
                .map(RuleVersion::to_json)
                .collect(),
            EngineRequest::TestRule(rule, event) => {
                // An expression may take its time; a mistake in it ends no more than this.
                let engine = engine.clone();
                let worked_out = tokio::task::spawn_blocking(move || engine.dry_run(&rule, &event)).await;
                let dry_run = worked_out.map_err(|error| EngineRefused::Unavailable(error.to_string()))?;
                dry_run.map_err(|error| of_rule(&error))?.to_json()
            }
            EngineRequest::Replay(replay) => self.replay(replay).await?,
            EngineRequest::Sources => engine.sources().iter().map(SourceStatus::to_json).collect(),
            EngineRequest::Source(source) => {
                engine.source(&source).map_err(|error| of_source(&error))?.to_json()
            }
            EngineRequest::ChangeSource(source, starts) => {
                match starts {
                    true => engine.start_source(&source).await,
                    false => engine.stop_source(&source).await,
                }
                .map_err(|error| of_source(&error))?;
                engine.source(&source).map_err(|error| of_source(&error))?.status.to_json()
            }
            EngineRequest::Topology => engine.topology().to_json(),
            EngineRequest::Plan(file, text) => match engine.plan(&file, &text).await {
                Ok(plan) => {
                    let mut shown = plan.to_json();
                    shown["valid"] = true.into();
                    shown["diagnostics"] = json!([]);
                    shown["text"] = plan.to_string().into();
                    shown
                }
                // Those who plan ask what is wrong: that is an answer.
                Err(ApplyError::Topology(error)) => {
                    json!({"file": file, "valid": false, "diagnostics": diagnostics(&error), "text": error.to_string()})
                }
                Err(error) => return Err(of_apply(error)),
            },
            EngineRequest::Apply(file, text) => {
                let report = engine.apply(&file, &text).await.map_err(of_apply)?;
                json!({"file": file, "holds": report.summary, "changes": report.changes, "plan": report.plan.to_json()})
            }
            EngineRequest::Secrets => {
                engine.secrets().names().into_iter().map(|name| json!({ "name": name })).collect()
            }
        })
    }

    async fn change_rule(&self, rule: &str, change: RuleChange) -> Result<Value, EngineRefused> {
        let engine = &self.engine;
        match change {
            RuleChange::Start => engine.start_rule(rule).await,
            RuleChange::Stop => engine.stop_rule(rule).await,
            RuleChange::Pause => engine.pause_rule(rule).await.map(drop),
            RuleChange::Drain => engine.drain_rule(rule).await,
        }
        .map_err(|error| of_rule(&error))?;
        Ok(engine.rule(rule).map_err(|error| of_rule(&error))?.status.to_json())
    }

    async fn replay(&self, asked: EngineReplay) -> Result<Value, EngineRefused> {
        let invalid = |error: anyhow::Error| invalid(format!("{error:#}"));
        let period = PeriodText { from: asked.since, since: None, until: asked.until };
        let period = period.read(self.broker.options().clock.now_ms()).map_err(invalid)?;
        let queue = match asked.from {
            Some(queue) => queue,
            None => self.engine.rule(&asked.rule).map_err(|error| of_rule(&error))?.status.parking_queue,
        };
        let request = ReplayRequest {
            rule: asked.rule,
            queue,
            of: replay_from(asked.of.as_deref()).map_err(invalid)?,
            since_ms: period.from_ms,
            until_ms: period.until_ms,
            limit: asked.limit,
            file: asked.file,
            dry_run: asked.dry_run,
        };
        match self.engine.replay(&request).await {
            Ok(report) => Ok(report.to_json()),
            Err(ReplayError::Rule(error)) => Err(of_rule(&error)),
            Err(ReplayError::Topology(error)) => Err(of_topology(&error)),
            Err(error @ (ReplayError::Session(_) | ReplayError::NotGiven { .. })) => {
                Err(EngineRefused::Unavailable(error.to_string()))
            }
            Err(error) => Err(self::invalid(error.to_string())),
        }
    }
}

fn invalid(reason: String) -> EngineRefused {
    EngineRefused::Invalid { reason, diagnostics: Vec::new() }
}

fn of_rule(error: &RuleError) -> EngineRefused {
    let reason = error.to_string();
    match error {
        RuleError::Missing { .. } => EngineRefused::Missing(reason),
        RuleError::NotItsQueue { .. } => invalid(reason),
        RuleError::NotKept { .. } | RuleError::NotBound { .. } | RuleError::ShutDown => {
            EngineRefused::Unavailable(reason)
        }
    }
}

fn of_source(error: &SourceError) -> EngineRefused {
    let reason = error.to_string();
    match error {
        SourceError::Missing { .. } => EngineRefused::Missing(reason),
        SourceError::NotKept { .. } | SourceError::ShutDown => EngineRefused::Unavailable(reason),
    }
}

fn diagnostics(error: &TopologyError) -> Vec<Value> {
    error.diagnostics.iter().map(Diagnostic::to_json).collect()
}

fn of_topology(error: &TopologyError) -> EngineRefused {
    EngineRefused::Invalid { reason: error.to_string(), diagnostics: diagnostics(error) }
}

fn of_apply(error: ApplyError) -> EngineRefused {
    let reason = error.to_string();
    match error {
        ApplyError::Topology(error) => of_topology(&error),
        ApplyError::Conflicts { .. } | ApplyError::Refused { .. } => invalid(reason),
        ApplyError::NotKept(_)
        | ApplyError::Component { .. }
        | ApplyError::Session(_)
        | ApplyError::ShutDown => EngineRefused::Unavailable(reason),
    }
}
