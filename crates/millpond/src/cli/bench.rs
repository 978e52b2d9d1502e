//! `millpond bench`: measures this broker, or any other that speaks AMQP 0-9-1. It needs no data directory: it is a
//! client like any other.

use super::admin::option;
use super::{json, print, style};
use crate::control::{Listing, Style};
use crate::settings::{ByteSize, SettingValue};
use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use millpond_amqp_client::Uri;
use millpond_bench::{Latency, Plan, Progress, Report, Scenario};
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the line at a terminal is written anew.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// The broker that is measured where none is named.
const URL_DEFAULT: &str = "amqp://guest:guest@localhost:5672/";

/// The command of this file.
pub(super) fn command() -> Command {
    let scenarios = Arg::new("scenario")
        .value_name("SCENARIO")
        .action(ArgAction::Append)
        .value_parser(Scenario::ALL.iter().map(|it| it.name()).collect::<Vec<_>>())
        .help("What to measure [default: all]");
    let number = |id: &'static str, help: &'static str| {
        option(id, "N", help).value_parser(value_parser!(u64).range(..=1_000_000_000))
    };
    let about: Vec<String> =
        Scenario::ALL.iter().map(|it| format!("  {:9} {}", it.name(), it.about())).collect();
    Command::new("bench")
        .about("Measure this broker, or any other that speaks AMQP 0-9-1")
        .after_help(format!(
            "Scenarios:\n{}\n\nCtrl-C ends a run and shows what was measured until then. What a run makes on the \
             broker is removed.",
            about.join("\n")
        ))
        .arg(scenarios)
        .args([
            option("url", "URL", "Which broker: amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps://")
                .env_default(URL_DEFAULT),
            option("seconds", "N", "How long each run publishes [default: 5]")
                .value_parser(value_parser!(f64)),
            option("size", "SIZE", "Of each body, 16 bytes at least: 100, 4KiB [default: 100]"),
            number("count", "Messages of a backlog [default: 100000]"),
            number("producers", "Publishing connections"),
            number("consumers", "Consuming connections, spread over the queues"),
            number("queues", "Queues"),
            number("rate", "Messages a second, of all producers together"),
            number("confirm", "Publishes of a producer that may be unconfirmed; 0: no confirms"),
            number("prefetch", "Deliveries of a consumer that may be unacked; 0: no acks"),
            option("persistent", "YES", "Persistent messages in durable queues")
                .value_parser(value_parser!(bool)),
            option("queue-type", "TYPE", "classic, quorum or stream"),
        ])
        .arg(json())
}

trait UrlDefault {
    fn env_default(self, default: &'static str) -> Self;
}

impl UrlDefault for Arg {
    /// From the environment, so that a password need not stand in the list of processes.
    fn env_default(self, default: &'static str) -> Self {
        match std::env::var("MILLPOND_BENCH_URL") {
            Ok(url) => self.default_value(url).hide_default_value(true),
            Err(_) => self.default_value(default),
        }
    }
}

/// Runs what is asked.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let named: Vec<&String> = matches.get_many("scenario").unwrap_or_default().collect();
    let scenarios = match named.is_empty() {
        true => Scenario::ALL.to_vec(),
        false => named.iter().filter_map(|name| Scenario::from_name(name)).collect(),
    };
    let plans: Vec<Plan> =
        scenarios.into_iter().map(|scenario| plan(matches, scenario)).collect::<Result<_>>()?;
    plans.iter().try_for_each(Plan::check)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let reports = runtime.block_on(run_all(&plans))?;
    match style(matches) {
        Style::Json => print(&serde_json::to_string(&reports)?),
        _ => print(&table(&reports)),
    }
}

fn plan(matches: &ArgMatches, scenario: Scenario) -> Result<Plan> {
    let text = |id: &str| matches.get_one::<String>(id);
    let uri: Uri = text("url").map_or(URL_DEFAULT, String::as_str).parse()?;
    let mut plan = Plan::new(uri, scenario);
    if plan.uri.host.is_empty() {
        "localhost".clone_into(&mut plan.uri.host);
    }
    if let Some(seconds) = matches.get_one::<f64>("seconds") {
        plan.duration = Duration::try_from_secs_f64(*seconds)
            .with_context(|| format!("--seconds {seconds} is no time that one could wait"))?;
    }
    if let Some(size) = text("size") {
        let size = ByteSize::parse(size).map_err(|reason| anyhow!("--size {reason}"))?;
        plan.size_bytes = usize::try_from(size.0)?;
    }
    let number = |id: &str| matches.get_one::<u64>(id).copied();
    plan.count = number("count").unwrap_or(plan.count);
    plan.rate = number("rate").or(plan.rate);
    if let Some(window) = number("confirm") {
        plan.confirm_window = u32::try_from(window)?;
    }
    if let Some(prefetch) = number("prefetch") {
        plan.prefetch = u16::try_from(prefetch).context("--prefetch is at most 65535")?;
    }
    for (id, target) in
        [("producers", &mut plan.producers), ("consumers", &mut plan.consumers), ("queues", &mut plan.queues)]
    {
        *target = number(id).map_or(Ok(*target), usize::try_from)?;
    }
    if let Some(persistent) = matches.get_one::<bool>("persistent") {
        plan.persistent = *persistent;
    }
    plan.queue_type = text("queue-type").cloned();
    Ok(plan)
}

/// The first Ctrl-C ends the run that goes on and leaves out those that would follow.
async fn run_all(plans: &[Plan]) -> Result<Vec<Report>> {
    let (interrupter, interrupt) = watch::channel(false);
    let mut pressed = signal(SignalKind::interrupt())?;
    let mut asked = signal(SignalKind::terminate())?;
    let twice = async {
        tokio::select! {
            _ = pressed.recv() => {}
            _ = asked.recv() => {}
        }
        interrupter.send_replace(true);
        // Who asks again does not want to wait for the report, nor for the removal of queues.
        pressed.recv().await;
    };
    tokio::select! {
        reports = one_after_the_other(plans, &interrupt) => reports,
        () = twice => bail!("interrupted twice: queues named millpond.bench.* may be left on the broker"),
    }
}

async fn one_after_the_other(plans: &[Plan], interrupt: &watch::Receiver<bool>) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for plan in plans {
        if *interrupt.borrow() {
            break;
        }
        let progress = Arc::new(Progress::default());
        let line = tokio::spawn(show(plan.scenario.name(), progress.clone()));
        let report = millpond_bench::run(plan, &progress, interrupt.clone()).await;
        line.abort();
        let _ = line.await;
        clear_line();
        reports.push(report?);
    }
    Ok(reports)
}

/// A line that tells how far a run is, for who sits at a terminal.
async fn show(scenario: &'static str, progress: Arc<Progress>) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let began = Instant::now();
    let (mut last, mut before) = (began, (0, 0));
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        let (now, counts) = (Instant::now(), (progress.published(), progress.received()));
        let seconds = (now - last).as_secs_f64();
        let rate = |now: u64, before: u64| grouped(((now - before) as f64 / seconds) as u64);
        let (published, received) = (rate(counts.0, before.0), rate(counts.1, before.1));
        let elapsed = began.elapsed().as_secs_f64();
        let _ = write!(
            std::io::stderr(),
            "\r{scenario:9} {elapsed:5.1} s  published {published}/s  received {received}/s\x1b[K"
        );
        (last, before) = (now, counts);
    }
}

fn clear_line() {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

/// `1,234,567`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn table(reports: &[Report]) -> String {
    let head = ["SCENARIO", "PUBLISHED/S", "RECEIVED/S", "MB/S", "P50", "P95", "P99", "MAX", "CONFIRM P99"];
    let rows = reports.iter().map(|report| {
        let time = |pick: fn(&Latency) -> u64| Value::from(report.latency_us.as_ref().map(|it| ms(pick(it))));
        let confirm = report.confirm_latency_us.as_ref().map(|it| ms(it.p99));
        [
            report.scenario.into(),
            grouped(report.publish.per_second as u64).into(),
            grouped(report.receive.per_second as u64).into(),
            format!("{:.1}", report.receive.mb_per_second).into(),
            time(|it| it.p50),
            time(|it| it.p95),
            time(|it| it.p99),
            time(|it| it.max),
            confirm.into(),
        ]
    });
    let mut out = String::new();
    if let Some(first) = reports.first() {
        out += &format!("{} at {}, bodies of {} bytes\n", first.broker, first.url, first.size_bytes);
    }
    out += &Listing::new(&head, "nothing was measured").with(rows).to_table();
    for report in reports {
        let mut note = |text: String| out += &format!("\n{}: {text}", report.scenario);
        if report.interrupted {
            note("interrupted".to_owned());
        }
        if report.refused > 0 {
            note(format!("{} publishes were refused", report.refused));
        }
        if report.missing > 0 {
            note(format!("{} messages had not come at the end", report.missing));
        }
    }
    out
}

fn ms(us: u64) -> String {
    format!("{:.2} ms", us as f64 / 1000.0)
}
