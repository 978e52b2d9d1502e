//! What is there to ask about, and those who ask.

use super::kinds::{KINDS, PASSWORD};
use crate::http::authorization_of;
use crate::oauth::{Signer, start_with_engine};
use millpond_amqp_codec::{PROTOCOL_HEADER, basic, connection};
use millpond_broker::{Missed, ScheduleSpec};
use millpond_model::properties::Properties;
use millpond_model::{ExchangeName, VhostName};
use millpond_server::{
    ApiAnswer, ApiRequest, ChooseRequest, Chosen, EngineAnswer, EngineChoice, EngineDoor, EngineRequest,
};
use millpond_testkit::{Client, Event, TestServer};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No connection takes so long to go unless it hangs.
const HANG: Duration = Duration::from_secs(30);

/// A vhost where nobody has permissions.
pub(super) const THERE: &str = "unseen-vhost";
/// Stands in each message.
pub(super) const SECRET: &str = "secret-of-a-message";
/// The engine's only rule, source, secret.
pub(super) const RULE: &str = "rule-of-the-engine";

/// An engine that does whatever it is asked.
#[derive(Debug)]
struct Obliging;

impl EngineDoor for Obliging {
    fn ask(&self, request: EngineRequest) -> EngineAnswer {
        let one = json!({
            "name": RULE, "state": "stopped", "reason": "failed", "queue": "q", "parking_queue": "q", "actions": [],
        });
        let is_list = matches!(
            request,
            EngineRequest::Rules
                | EngineRequest::Sources
                | EngineRequest::Secrets
                | EngineRequest::RuleHistory(_)
        );
        let answer = if is_list { json!([one]) } else { one };
        Box::pin(async move { Ok(answer) })
    }

    fn choose(&self, request: ChooseRequest) -> EngineChoice {
        let fits = request.messages.iter().map(|_| true).collect();
        Box::pin(async move { Ok(Chosen { fits, ..Chosen::default() }) })
    }
}

/// Somebody, and how they come in.
pub(super) struct Asker {
    pub(super) letter: char,
    by: &'static str,
    /// Headers.
    shows: String,
    socket: Option<TcpStream>,
}

impl Asker {
    fn new(letter: char, by: &'static str, shows: String) -> Self {
        Self { letter, by, shows, socket: None }
    }

    pub(super) fn is_somebody(&self) -> bool {
        self.letter != NOBODY
    }
}

/// Nobody's letter.
const NOBODY: char = '-';

/// A request as it is sent.
pub(super) struct Filled {
    line: String,
    path: String,
    body: String,
    by: String,
    letter: char,
}

/// What findings are about.
pub(super) struct Asked<'a> {
    pub(super) line: &'a str,
    pub(super) path: &'a str,
    pub(super) body: &'a str,
    pub(super) by: &'a str,
    pub(super) letter: char,
}

impl Filled {
    pub(super) fn view(&self) -> Asked<'_> {
        let Self { line, path, body, by, letter } = self;
        Asked { line, path, body, by, letter: *letter }
    }
}

pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) text: String,
}

pub(super) struct World {
    pub(super) server: TestServer,
    pub(super) signer: Signer,
    pub(super) askers: Vec<Asker>,
    node: String,
    /// A connection of `m`, which consumes from `qempty`.
    client: Option<(Client, String)>,
    /// It was closed, or its consumer was; that may take a moment.
    is_used_up: bool,
    _dir: tempfile::TempDir,
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The same in both vhosts.
const THINGS: [&str; 16] = [
    r#"PUT /queues/{v}/q {"durable":true}"#,
    "PUT /queues/{v}/qempty {}",
    r#"PUT /queues/{v}/qdead {"arguments":{"x-dead-letter-exchange":"xd"}}"#,
    r#"PUT /exchanges/{v}/x {"type":"direct"}"#,
    r#"PUT /exchanges/{v}/xt {"type":"topic"}"#,
    r#"PUT /exchanges/{v}/xd {"type":"fanout"}"#,
    r#"PUT /exchanges/{v}/xalt {"type":"fanout","arguments":{"alternate-exchange":"xd"}}"#,
    r#"PUT /exchanges/{v}/xlater {"type":"x-delayed-message","arguments":{"x-delayed-type":"fanout"}}"#,
    r#"POST /bindings/{v}/e/amq.fanout/q/q {"routing_key":"k"}"#,
    r#"POST /exchanges/{v}/amq.default/publish {"properties":{"message_id":"secret-of-a-message"},"routing_key":"q","payload":"secret-of-a-message","payload_encoding":"string"}"#,
    r#"POST /exchanges/{v}/xlater/publish {"properties":{"message_id":"secret-of-a-message","headers":{"x-delay":3600000}},"routing_key":"q","payload":"","payload_encoding":"string"}"#,
    r#"PUT /policies/{v}/p {"pattern":"^none","definition":{"max-length":1}}"#,
    r#"PUT /operator-policies/{v}/p {"pattern":"^none","definition":{"max-length":1}}"#,
    r#"PUT /parameters/kept/{v}/k {"value":{"a":1}}"#,
    r#"PUT /vhost-limits/{v}/max-connections {"value":1000}"#,
    r#"PUT /permissions/{v}/some {"configure":"","write":"","read":""}"#,
];

impl World {
    pub(super) async fn new() -> Self {
        let signer = Signer::ec(None);
        let (server, dir) = start_with_engine(&signer, std::sync::Arc::new(Obliging)).await;
        for kind in &KINDS {
            kind.add(&server).await;
        }
        let (askers, node, client) = (Vec::new(), String::new(), None);
        let mut world = Self { server, signer, askers, node, client, is_used_up: false, _dir: dir };
        let made = [
            format!("PUT /vhosts/{THERE} {{}}"),
            r#"PUT /users/some {"tags":"management"}"#.to_owned(),
            r#"PUT /global-parameters/g {"value":1}"#.to_owned(),
        ];
        for line in &made {
            world.prepare_at(line, "/").await;
        }
        for vhost in ["/", THERE] {
            for line in THINGS {
                world.prepare_at(line, vhost).await;
            }
            world.add_schedule(vhost).await;
        }
        let overview = world.inside("GET", "/overview", "").await;
        let overview: Value = serde_json::from_slice(&overview.body).unwrap();
        world.node = overview["node"].as_str().unwrap().to_owned();
        world.let_in().await;
        world
    }

    async fn add_schedule(&self, vhost: &str) {
        let spec = ScheduleSpec {
            name: "s".into(),
            cron: "0 3 1 1 *".into(),
            zone: "UTC".into(),
            exchange: ExchangeName::new("x").unwrap(),
            routing_key: b"k".as_slice().into(),
            properties: Properties::default(),
            body: SECRET.as_bytes().into(),
            missed: Missed::Skip,
        };
        let vhost = VhostName::new(vhost).unwrap();
        self.server.broker().set_schedule(&vhost, spec).unwrap().1.await.unwrap();
    }

    /// Everybody by each way in.
    async fn let_in(&mut self) {
        for kind in &KINDS {
            let letter = kind.letter;
            let basic = authorization_of(&format!("{letter}:{PASSWORD}"));
            self.askers.push(Asker::new(letter, "password", format!("Authorization: {basic}\r\n")));
            let token = format!("Authorization: Bearer {}\r\n", kind.token(&self.signer));
            self.askers.push(Asker::new(letter, "token", token));
        }
        let bad_token = Signer::ec(None).sign(&json!({ "sub": "stranger" }));
        for (by, shows) in [
            ("nothing", String::new()),
            ("a bad token", format!("Authorization: Bearer {bad_token}\r\n")),
            ("a bad cookie", format!("Cookie: millpond_{}=AAAAAAAA\r\n", self.server.http().port())),
        ] {
            self.askers.push(Asker::new(NOBODY, by, shows));
        }
        // Those without a tag get no cookie.
        for kind in KINDS.iter().filter(|kind| !"nN".contains(kind.letter)) {
            let body = format!(r#"{{"username":"{}","password":"{PASSWORD}"}}"#, kind.letter);
            let request = format!(
                "POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut socket = TcpStream::connect(self.server.http()).await.unwrap();
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            let line = answer.lines().find(|it| it.to_ascii_lowercase().starts_with("set-cookie: ")).unwrap();
            let cookie = line[12..].split(';').next().unwrap();
            let shows = format!("Cookie: {cookie}\r\nX-Requested-With: test\r\n");
            self.askers.push(Asker::new(kind.letter, "cookie", shows));
        }
    }

    pub(super) async fn prepare(&mut self, before: &str, vhost: &str) {
        match before {
            "connection" => self.keep_connection().await,
            before => self.prepare_at(before, vhost).await,
        }
    }

    /// A request of the broker itself, after which there is something, or nothing.
    pub(super) async fn prepare_at(&self, before: &str, vhost: &str) {
        let Some((method, rest)) = before.split_once(' ') else { return };
        let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
        let answer = self.inside(method, &path.replace("{v}", &encoded(vhost)), body).await;
        let is_fine = answer.status < 300 || method == "DELETE" && answer.status == 404;
        assert!(is_fine, "{before}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    }

    async fn inside(&self, method: &str, path: &str, body: &str) -> ApiAnswer {
        let (method, path, body) = (method.to_owned(), path.to_owned(), body.to_owned().into());
        let asked = ApiRequest { method, path, body, ..ApiRequest::default() };
        self.server.api().ask(asked).await.unwrap()
    }

    /// An open connection; `None` for somebody who is not let in, or not into the vhost.
    pub(super) async fn connect(&self, user: &str, password: &str) -> Option<Client> {
        let mut client = Client::connect_raw(self.server.amqp()).await;
        client.send_bytes(&PROTOCOL_HEADER).await;
        client.expect("connection.start").await;
        client.start_ok("PLAIN", format!("\0{user}\0{password}").as_bytes(), true).await;
        match client.event().await {
            Event::Method { name: "connection.tune", .. } => {}
            Event::Closed { code: 403, .. } => return None,
            other => panic!("{other:?}"),
        }
        client.send(0, connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 }).await;
        client.open("/").await;
        match client.event().await {
            Event::Method { name: "connection.open-ok", .. } => Some(client),
            Event::Closed { code: 530, .. } => None,
            other => panic!("{other:?}"),
        }
    }

    /// The connection of `m` is there, with its consumer.
    async fn keep_connection(&mut self) {
        if self.client.is_some() && !std::mem::take(&mut self.is_used_up) {
            return;
        }
        self.client = None;
        let until = Instant::now() + HANG;
        while !self.connections_of_m().is_empty() {
            assert!(Instant::now() < until, "the connection stays");
            tokio::task::yield_now().await;
        }
        let mut client = self.connect("m", PASSWORD).await.unwrap();
        client.open_channel(1).await;
        client.send(1, basic::Qos { prefetch_count: 5, ..Default::default() }).await;
        client.expect("basic.qos-ok").await;
        client.consume(1, "qempty", "tag", false).await;
        let name = self.connections_of_m().pop().unwrap();
        self.client = Some((client, name));
    }

    fn connections_of_m(&self) -> Vec<String> {
        let mut all = self.server.broker().list_connections();
        all.retain(|it| it.user.as_str() == "m" && it.name.contains(" -> "));
        all.into_iter().map(|it| it.name.to_string()).collect()
    }

    fn fill_in(&self, line: &str, body: &str, vhost: &str) -> (String, String) {
        let connection = self.client.as_ref().map(|it| encoded(&it.1)).unwrap_or_default();
        let line = line.replace("{v}", &encoded(vhost)).replace("{c}", &connection);
        (line.replace("{node}", &encoded(&self.node)), body.replace("{vhost}", vhost))
    }

    pub(super) fn fill(&self, at: usize, line: &str, body: &str, vhost: &str) -> Filled {
        let asker = &self.askers[at];
        let (line, body) = self.fill_in(line, body, vhost);
        let body = body.replace("{user}", &asker.letter.to_string()).replace("{password}", PASSWORD);
        let path = line.split_once(' ').unwrap().1.to_owned();
        Filled { line, path, body, by: format!("{} by {}", asker.letter, asker.by), letter: asker.letter }
    }

    fn note_use(&mut self, line: &str, status: u16) {
        let is_about_it = line.contains("%3E") || line.contains("/username/m");
        self.is_used_up |= status < 300 && line.starts_with("DELETE ") && is_about_it;
    }

    /// As the broker's own user; `None`: not a path of the management API.
    pub(super) async fn ask_inside(&mut self, line: &str, body: &str, vhost: &str) -> Option<Answered> {
        let (line, body) = self.fill_in(line, body, vhost);
        let (method, path) = line.split_once(' ').unwrap();
        let path = path
            .strip_prefix("/api")
            .filter(|path| !path.is_empty() && !["/log", "/live"].iter().any(|it| path.starts_with(it)))?;
        let answer = self.inside(method, path, &body).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        self.note_use(&line, answer.status);
        Some(Answered { status: answer.status, text })
    }

    pub(super) async fn ask(&mut self, at: usize, asked: &Filled) -> Answered {
        let address = self.server.http();
        let asker = &mut self.askers[at];
        let kind = match asked.line.as_str() {
            line if line.contains(" /events") => "application/cloudevents+json",
            line if line.contains("/topology") => "application/yaml",
            _ => "application/json",
        };
        let request = format!(
            "{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{}Content-Length: {}\r\n\r\n{}",
            asked.line,
            asker.shows,
            asked.body.len(),
            asked.body
        );
        let mut socket = match asker.socket.take() {
            Some(socket) => socket,
            None => TcpStream::connect(address).await.unwrap(),
        };
        socket.write_all(request.as_bytes()).await.unwrap();
        let (answered, again) = receive(&mut socket).await;
        // What goes on for ever is left.
        asker.socket = again.then_some(socket);
        self.note_use(&asked.line, answered.status);
        answered
    }
}

/// An answer, and whether the next one can come by the same connection.
async fn receive(socket: &mut TcpStream) -> (Answered, bool) {
    let mut input = Vec::new();
    let end = loop {
        if let Some(at) = input.windows(4).position(|it| it == b"\r\n\r\n") {
            break at + 4;
        }
        assert_ne!(socket.read_buf(&mut input).await.unwrap(), 0, "{}", String::from_utf8_lossy(&input));
    };
    let head = String::from_utf8_lossy(&input[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if header("transfer-encoding:").is_some() {
        return (Answered { status, text: String::new() }, false);
    }
    let size = header("content-length:").map_or(0, |size| size.parse().unwrap());
    while input.len() < end + size {
        assert_ne!(socket.read_buf(&mut input).await.unwrap(), 0);
    }
    let text = String::from_utf8_lossy(&input[end..]).into_owned();
    (Answered { status, text }, header("connection:") != Some("close"))
}
