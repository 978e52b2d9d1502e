//! `tests:` of a topology file.

use super::{Expected, Given, Stub, Trial};
use crate::action::KINDS;
use crate::topology::read::{Fields, Report, did_you_mean, entries, list, parse_duration, text};
use crate::topology::{Kind, Node, Rule};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// What happens to a message that a rule gives up, as an action.
pub(super) const PARKED: &str = "parked";

/// Farthest that one step moves the clock of a test: a year.
const AFTER_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads the tests; `rules` are those of the same file.
pub(crate) fn read_trials(node: &Node, rules: &[Arc<Rule>], report: &mut Report) -> Vec<Trial> {
    let mut trials = Vec::new();
    for entry in entries(node, "tests", "a mapping from names to tests", report) {
        let path = format!("tests.{}", entry.key);
        let known = ["rule", "given", "expect", "answers", "also"];
        let fields = Fields::read(&entry.value, &path, &known, report);
        let rule = fields.text("rule", "the name of a rule", report).map(str::to_owned);
        if let Some(rule) = &rule
            && !rules.iter().any(|it| it.name == *rule)
        {
            let guess = did_you_mean(rule, rules.iter().map(|it| it.name.as_str()));
            let line = fields.get("rule").map_or(entry.line, |node| node.line);
            let found = format!("found '{rule}', expected a rule of the file{guess}");
            report.add(line, &fields.path_of("rule"), found);
        }
        let also_any = fields.text("also", "any", report).is_some_and(|also| {
            if also != "any" {
                let line = fields.get("also").map_or(entry.line, |node| node.line);
                report.add(line, &fields.path_of("also"), format!("found '{also}', expected any"));
            }
            also == "any"
        });
        let given = fields.required("given", "'given': a list of events", report);
        let given = given.map(|node| read_given(node, &fields.path_of("given"), report));
        let expect = match fields.get("expect") {
            Some(node) => read_expect(node, &fields.path_of("expect"), report),
            None => {
                let text = "found no 'expect', expected a list of actions ([] if nothing is to be done)";
                report.add(entry.line, &path, text);
                Vec::new()
            }
        };
        let answers = fields.get("answers");
        trials.push(Trial {
            name: entry.key.to_string(),
            place: format!("{}:{}", report.file, entry.line),
            rule,
            given: given.unwrap_or_default(),
            answers: answers
                .map(|node| read_answers(node, &fields.path_of("answers"), report))
                .unwrap_or_default(),
            expect,
            also_any,
        });
    }
    trials
}

fn items<'n>(node: &'n Node, path: &str, expected: &str, report: &mut Report) -> &'n [Node] {
    match &node.kind {
        Kind::List(items) => items,
        _ => {
            report.expected(node, path, expected);
            &[]
        }
    }
}

fn read_given(node: &Node, path: &str, report: &mut Report) -> Vec<Given> {
    let mut given = Vec::new();
    for (number, item) in items(node, path, "a list of events, each after a '-'", report).iter().enumerate() {
        let path = format!("{path}[{number}]");
        let Kind::Map(members) = &item.kind else {
            report.expected(item, &path, "an event, such as {type: order.placed, data: {}}, or {after: 5s}");
            continue;
        };
        let Some(after) = members.iter().find(|entry| &*entry.key == "after") else {
            given.push(Given::Event(item.to_json()));
            continue;
        };
        if members.len() > 1 {
            report.add(item.line, &path, "found 'after' beside others, expected it alone");
        }
        let time = text(&after.value, &path, "a time such as 5s", report).map(parse_duration);
        match time {
            Some(Some(time)) if time <= AFTER_MAX => given.push(Given::After(time)),
            Some(_) => {
                let path = format!("{path}.after");
                report.expected(
                    &after.value,
                    &path,
                    "a time such as 250ms, 5s, 2m, 1h or 7d, at most a year",
                );
            }
            None => {}
        }
    }
    given
}

fn kind_of(kind: &str, line: usize, path: &str, with_parked: bool, report: &mut Report) -> Option<String> {
    let mut known: Vec<&str> = KINDS.to_vec();
    if with_parked {
        known.push(PARKED);
    }
    if known.contains(&kind) {
        return Some(kind.to_owned());
    }
    let guess = did_you_mean(kind, known.iter().copied());
    report.add(line, path, format!("found '{kind}', expected one of {}{guess}", list(&known)));
    None
}

fn read_expect(node: &Node, path: &str, report: &mut Report) -> Vec<Expected> {
    let mut expect = Vec::new();
    for (number, item) in items(node, path, "a list of actions, each after a '-'", report).iter().enumerate()
    {
        let path = format!("{path}[{number}]");
        let Kind::Map(members) = &item.kind else {
            report.expected(item, &path, "an action, such as publish: {routing_key: order.receipt}");
            continue;
        };
        let [entry] = members.as_slice() else {
            let text = format!("found {} keys, expected one kind of action", members.len());
            report.add(item.line, &path, text);
            continue;
        };
        let Some(kind) = kind_of(&entry.key, entry.line, &path, true, report) else { continue };
        if !matches!(entry.value.kind, Kind::Map(_) | Kind::Null) {
            report.expected(&entry.value, &format!("{path}.{kind}"), "a mapping of what it must have");
            continue;
        }
        let place = format!("{}:{}", report.file, entry.line);
        expect.push(Expected { kind, place, facts: entry.value.to_json() });
    }
    expect
}

fn read_answers(node: &Node, path: &str, report: &mut Report) -> Vec<Stub> {
    let mut stubs = Vec::new();
    for entry in entries(node, path, "a mapping from kinds of actions to answers", report) {
        let Some(kind) = kind_of(&entry.key, entry.line, path, false, report) else { continue };
        let answers = match entry.value.to_json() {
            Value::Array(answers) => answers,
            one => vec![one],
        };
        let path = format!("{path}.{kind}");
        if answers.is_empty() || !answers.iter().all(Value::is_object) {
            let expected =
                "an answer such as {status: 200, body: {}} or {fails: no connection}, or a list of them";
            report.expected(&entry.value, &path, expected);
            continue;
        }
        stubs.push(Stub { kind, answers });
    }
    stubs
}
