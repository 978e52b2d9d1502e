//! Every operation, asked by every kind of user over every front end: who may is written down in `routes` (the
//! management side) and `messaging` (what AMQP does, and whatever does the same).
//!
//! | Front end | Who it is |
//! |---|---|
//! | AMQP | a password, a token |
//! | management API | a password (HTTP Basic), a token, a login by cookie, nobody |
//! | HTTP for events | the same |
//! | management API from inside, as the control socket has it | the broker's own user |
//!
//! Beside what is allowed, what is shown is looked at: no answer names a vhost that the asker may not see, shows a
//! message to somebody who may not read it, somebody else's connection, a rule, or the hash of a password.

mod kinds;
mod messaging;
mod routes;
mod world;

use crate::http::{authorization_of, receive, send};
use crate::openapi::{document, line as pattern};
use kinds::{KINDS, Kind, elsewhere};
use messaging::{OPERATIONS, over_amqp};
use millpond_testkit::{Client, TestServer};
use routes::{ANYBODY, ROUTES};
use std::collections::BTreeSet;
use world::*;

/// Refused, as each front end says it.
const REFUSED: [u16; 3] = [401, 403, 429];

/// What was found wrong; a table is mended whole.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn note(&mut self, asked: &Asked<'_>, answer: &Answered, expected: bool) {
        let is_allowed = match answer.status {
            status if REFUSED.contains(&status) => false,
            // Another's connection is not there for those who may not see it.
            404 if asked.path.contains("%3E") => false,
            _ => true,
        };
        let Asked { line, body, by, .. } = asked;
        let Answered { status, text } = answer;
        let is_meant = match status {
            200..=299 => true,
            404 => line.contains("nowhere") || !is_allowed,
            503 => line.contains("port-listener"),
            _ => !is_allowed,
        };
        if is_allowed != expected || !is_meant {
            let verdict = if expected { "allowed" } else { "refused" };
            self.0.push(format!("{line} {body}: by {by} expected {verdict}, got {status} {text}"));
        }
        if is_allowed && *status < 300 {
            for what in shown_too_much(asked, text) {
                self.0.push(format!("{line} {body}: by {by} shows {what}: {text}"));
            }
        }
        let is_api = line.contains(" /api/") && matches!(status, 401 | 403);
        if is_api && !text.contains(r#""error":"not_authori"#) {
            self.0.push(format!("{line} by {by}: {status} {text}"));
        }
    }

    fn none(self) {
        let count = self.0.len();
        let first: Vec<_> =
            self.0.into_iter().take(40).map(|it| it.chars().take(400).collect::<String>()).collect();
        assert!(first.is_empty(), "{count} findings:\n{}", first.join("\n"));
    }
}

/// What an answer shows that this user may not see.
fn shown_too_much(asked: &Asked<'_>, text: &str) -> Vec<&'static str> {
    let is_one_of = |letters: &str| letters.contains(asked.letter);
    let is_of_connections = ["/connections", "/channels"].iter().any(|it| asked.path.contains(it));
    let of_queues = asked.path.contains("/queues") || asked.path.contains("/rules");
    let readers = if of_queues { "nmpoatrq" } else { "nmpoatrx" };
    [
        ("a vhost", text.contains(THERE) && !is_one_of("oOaA")),
        ("a message", text.contains(SECRET) && !is_one_of(readers)),
        ("a connection", is_of_connections && text.contains(r#""user":"m""#) && !is_one_of("moaOA")),
        ("a rule", text.contains(RULE) && !is_one_of("oOaA")),
        ("a hash", text.contains("password_hash\":\"$") && !is_one_of("aA")),
    ]
    .into_iter()
    .filter_map(|(what, is_shown)| is_shown.then_some(what))
    .collect()
}

/// Asks for one thing as everybody, in both vhosts; `who`: letters of those who may.
async fn ask_all(
    world: &mut World,
    findings: &mut Findings,
    (line, body, before): (&str, &str, &str),
    who: &str,
) {
    let in_vhost = line.contains("{v}") || body.contains("{vhost}");
    // A connection is in one of them.
    let in_both = in_vhost && !line.contains("{c}");
    for vhost in ["/", THERE].into_iter().take(if in_both { 2 } else { 1 }) {
        for at in 0..world.askers.len() {
            let asker = &world.askers[at];
            let letter = match asker.letter {
                letter if vhost == THERE => elsewhere(letter),
                letter => letter,
            };
            let expected = who == ANYBODY || asker.is_somebody() && who.contains(letter);
            world.prepare(before, vhost).await;
            let asked = world.fill(at, line, body, vhost);
            let answer = world.ask(at, &asked).await;
            findings.note(&asked.view(), &answer, expected);
        }
        world.prepare(before, vhost).await;
        let answer = world.ask_inside(line, body, vhost).await;
        if let Some(answer) = answer.filter(|it| REFUSED.contains(&it.status)) {
            findings.0.push(format!("{line}: inside: {} {}", answer.status, answer.text));
        }
    }
}

#[tokio::test]
async fn the_management_side_is_open_to_those_whose_tags_say_so() {
    let mut world = World::new().await;
    let mut findings = Findings::default();
    for route in ROUTES {
        ask_all(&mut world, &mut findings, (route.line, route.body, route.before), route.who).await;
    }
    findings.none();
}

#[tokio::test]
async fn what_is_done_in_a_vhost_is_allowed_alike_over_all_front_ends() {
    let mut world = World::new().await;
    let mut findings = Findings::default();
    for operation in OPERATIONS {
        for (line, body) in operation.management {
            // The management side is for those with a tag.
            let who = operation.who.replace('n', "");
            ask_all(&mut world, &mut findings, (line, body, operation.before), &who).await;
        }
        for (line, body) in operation.events {
            ask_all(&mut world, &mut findings, (line, body, operation.before), operation.who).await;
        }
    }
    findings.none();
}

/// Connections of a kind of user, by password and by token; nothing of one that does not come into the vhost.
async fn connect(world: &World, kind: &Kind) -> Vec<(&'static str, Option<Client>)> {
    let token = kind.token(&world.signer);
    let mut opened = Vec::new();
    for (by, password) in [("password", kinds::PASSWORD), ("token", &token)] {
        opened.push((by, world.connect(&kind.letter.to_string(), password).await));
    }
    opened
}

#[tokio::test]
async fn amqp_allows_what_the_permissions_say() {
    let world = World::new().await;
    let mut findings = Vec::new();
    for kind in &KINDS {
        for (by, mut client) in connect(&world, kind).await {
            for (number, operation) in (1..).zip(OPERATIONS) {
                world.prepare_at(operation.before, "/").await;
                let done = match &mut client {
                    Some(client) => over_amqp(client, number, operation.name).await,
                    None => Some(false),
                };
                let Some(done) = done else { continue };
                let expected = operation.who.contains(kind.letter);
                if done != expected && !(client.is_none() && operation.name == "settle") {
                    findings.push(format!("{}: {} by {by}: {done}", operation.name, kind.letter));
                }
            }
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
    assert!(world.connect("m", "wrong").await.is_none() && world.connect("nobody", "p").await.is_none());
}

#[tokio::test]
async fn a_browser_is_asked_for_the_password_again_when_it_was_wrong() {
    let server = TestServer::start().await;
    let wrong = authorization_of("guest:wrong");
    let answer = receive(send(&server, "GET /api/whoami", &[("Authorization", &wrong)], "").await).await;
    assert_eq!((answer.status, &answer.json()["error"]), (401, &"not_authorized".into()));
    assert!(answer.header("www-authenticate").is_some());
}

#[tokio::test]
async fn every_route_is_in_one_of_the_tables() {
    let world = World::new().await;
    let mut missing = BTreeSet::new();
    for (path, methods) in document(&world.server).await["paths"].as_object().unwrap() {
        missing.extend(methods.as_object().unwrap().keys().map(|method| pattern(method, path)));
    }
    let of_operations = OPERATIONS.iter().flat_map(|it| it.management.iter().chain(it.events).map(|it| it.0));
    let templates: Vec<_> = missing.iter().cloned().collect();
    for line in ROUTES.iter().map(|route| route.line).chain(of_operations) {
        let line = line.split('?').next().unwrap();
        let parts: Vec<_> = line.split('/').collect();
        // Of several, the one with the fewest parameters.
        let fits = |template: &&String| {
            let theirs: Vec<_> = template.split('/').collect();
            theirs.len() == parts.len()
                && theirs.iter().zip(&parts).all(|(it, part)| *it == "{}" || it == part)
        };
        let found = templates.iter().filter(fits).min_by_key(|template| template.matches("{}").count());
        missing.remove(found.unwrap_or_else(|| panic!("'{line}' is no route")));
    }
    assert!(missing.is_empty(), "who may ask for these? {missing:#?}");
}
