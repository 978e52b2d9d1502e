//! `millpond explain`: why a message would, or would not, reach a queue.

use super::admin::{option, vhost, word};
use super::api;
use super::{listing, print, style};
use crate::control::{ApiAsk, Style};
use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

/// The command of this file.
pub(super) fn command() -> Command {
    let header = Arg::new("header").long("header").value_name("NAME=VALUE").action(ArgAction::Append);
    listing(
        Command::new("explain")
            .about("Say why a message would, or would not, reach a queue; nothing is published")
            .after_help("For example: millpond explain shop order.new --header colour=red --queue orders")
            .args([
                word("exchange", "EXCHANGE", "To which exchange; amq.default is the one without a name"),
                word("key", "KEY", "With which routing key").required(false).default_value(""),
                header.help("With this header; may be repeated"),
                option("queue", "QUEUE", "The queue that is asked about"),
                option("user", "USER", "Whether this user may publish so"),
                vhost(),
            ]),
    )
}

/// Asks, and says it in lines: a binding each, then what the queues do.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let text = |id: &str| matches.get_one::<String>(id).map(String::as_str);
    let headers: Vec<String> = matches.get_many::<String>("header").unwrap_or_default().cloned().collect();
    let body = json!({
        "vhost": text("vhost"), "exchange": text("exchange"), "routing_key": text("key"),
        "headers": api::object_of(&headers)?, "queue": text("queue"), "user": text("user"),
    });
    let ask = ApiAsk { method: "POST".into(), path: "/explain".into(), body: Some(body), reason: None };
    let told = api::answer(matches, ask)?;
    match style(matches) {
        Style::Json => print(&told.to_string()),
        _ => print(&in_words(&told)),
    }
}

fn in_words(told: &Value) -> String {
    let text = |it: &Value, member: &str| it[member].as_str().unwrap_or_default().to_owned();
    let all = |member: &str| told[member].as_array().cloned().unwrap_or_default();
    let queues: Vec<_> = all("queues").iter().filter_map(|it| it.as_str().map(str::to_owned)).collect();
    let mut lines = vec![match queues.is_empty() {
        true => "it reaches no queue".to_owned(),
        false => format!("it reaches {}", queues.join(", ")),
    }];
    if told["refused"].is_object() {
        lines.push(format!("refused: {}", text(&told["refused"], "reason")));
    }
    for step in all("steps") {
        let sign = if step["matched"] == true { '+' } else { '-' };
        let exchange = match text(&step, "exchange") {
            empty if empty.is_empty() => "(default)".to_owned(),
            name => name,
        };
        let to =
            step["destination"].as_str().map(|to| format!(" -> {} {to}", text(&step, "destination_type")));
        let to = to.unwrap_or_default();
        lines.push(format!("{sign} {exchange} ({}){to}: {}", text(&step, "type"), text(&step, "reason")));
    }
    if told["truncated"] == true {
        lines.push("... and more bindings".to_owned());
    }
    for reason in all("queue_reasons") {
        lines.push(format!("  queue {}: {}", text(&reason, "queue"), text(&reason, "reason")));
    }
    lines.join("\n")
}
