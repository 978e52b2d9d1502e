//! How a message is worked off: actions in stages, the ledger, order by key, targets that are down or hang.

use crate::support::{TestEngine, in_time, open_engine, persistent};
use millpond_broker::Clock;
use millpond_model::properties::Properties;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a server says to a request; `None`: nothing, it hangs.
type Answer = Option<(u16, String)>;

/// What answers a path and a key.
type Say = dyn Fn(&str, &str) -> Answer + Send + Sync;

/// Paths and idempotency keys of requests, with what was said, in the order in which they came.
type Log = Arc<Mutex<Vec<(String, String, Option<u16>)>>>;

/// An HTTP server that answers any number of requests at once, each as `say` has it for its path and key.
struct Hooks {
    url: String,
    seen: Log,
}

impl Hooks {
    async fn start(say: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (say, log) = (Arc::new(say), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, say.clone(), log.clone()));
            }
        });
        Self { url, seen }
    }

    fn count(&self, path: &str) -> usize {
        self.seen.lock().iter().filter(|(seen, ..)| seen.starts_with(path)).count()
    }
}

async fn answer(mut stream: TcpStream, say: Arc<Say>, log: Log) {
    let mut bytes = Vec::new();
    loop {
        let mut block = [0; 4096];
        let read = stream.read(&mut block).await.unwrap_or(0);
        bytes.extend_from_slice(&block[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if read == 0 {
                return;
            }
            continue;
        };
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines
                .find(|(found, _)| found.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        if body.len() < header("content-length").map_or(0, |it| it.parse().unwrap()) {
            continue;
        }
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let key = header("idempotency-key").unwrap_or_default();
        let said = say(&path, &key);
        log.lock().push((path, key, said.as_ref().map(|(status, _)| *status)));
        let Some((status, body)) = said else { return std::future::pending().await };
        let retry_after = if status == 429 { "retry-after: 3600\r\n" } else { "" };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} Said\r\n{retry_after}content-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        return;
    }
}

fn ok(body: &str) -> Answer {
    Some((200, body.to_owned()))
}

fn with_id(id: &str) -> Properties {
    Properties { message_id: Some(id.into()), ..persistent() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_sees_the_answers_of_those_before_it() {
    let hooks = Hooks::start(|path, _| match path {
        "/user" => ok(r#"{"mail": "a@b"}"#),
        "/send/a@b" => ok(r#"{"ticket": 7}"#),
        other => panic!("{other}"),
    })
    .await;
    let it = TestEngine::with(&format!(
        r#"
queues: {{in: {{}}, out: {{}}}}
rules:
  mail:
    on: {{queue: in}}
    do:
      - {{name: user, http: {{method: GET, endpoint: "{url}/user"}}}}
      - {{name: never, if: .data.no == true, http: {{method: GET, endpoint: "{url}/never"}}}}
      - {{name: sent, http: {{method: GET, endpoint: '{url}/send/\(.results.user.body.mail)'}}}}
      - {{if: .results.sent.body.ticket == 8, publish: {{exchange: "", routing_key: out, body: '"wrong"'}}}}
      - publish: {{exchange: "", routing_key: out, body: '[.results.sent.body.ticket, .results.never, .data.n]'}}
"#,
        url = hooks.url
    ))
    .await;
    let mut client = it.client();
    client.publish("", "in", r#"{"n": 1}"#).await;
    assert_eq!(client.get("out").await.body, "[7,null,1]");
    it.until("mail", |counts| counts == (1, 1, 0, 0)).await;
    assert_eq!(client.ready("out"), 0);
    assert!(it.broker.values("engine/ledger").unwrap().is_empty(), "what is acked is off the ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_good_goes_on_with_on_error_and_counts_as_handled() {
    let hooks = Hooks::start(|_, _| Some((500, "broken".into()))).await;
    let it = TestEngine::with(&format!(
        r#"
queues: {{in: {{}}, out: {{}}}}
rules:
  careful:
    on: {{queue: in}}
    retry: {{max_attempts: 2, first: 1ms}}
    do:
      - publish: {{exchange: "", routing_key: out, body: '"before"'}}
      - name: call
        http: {{endpoint: "{url}/x"}}
        on_error:
          - publish: {{exchange: "", routing_key: out, body: '.error'}}
      - publish: {{exchange: "", routing_key: out, body: '"behind"'}}
  wrong:
    on: {{queue: out}}
    when: .data == "wrong"
    do:
      - publish: {{exchange: "", routing_key: out}}
"#,
        url = hooks.url
    ))
    .await;
    it.engine.stop_rule("wrong").await.unwrap();
    let mut client = it.client();
    client.publish("", "in", "1").await;
    assert_eq!(client.get("out").await.body, "before");
    let error = client.get("out").await.json();
    assert_eq!((&error["action"], &error["attempts"]), (&"call".into(), &2.into()));
    assert!(error["message"].as_str().unwrap().contains("the answer is 500"), "{error}");
    it.until("careful", |counts| counts == (1, 1, 1, 0)).await;
    assert_eq!((client.ready("out"), client.ready("careful.failed")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_key_follow_one_another_also_through_retries() {
    let busy: Arc<Mutex<HashSet<String>>> = Arc::default();
    let failed: Arc<Mutex<HashSet<String>>> = Arc::default();
    let hooks = Hooks::start(move |path, _| {
        let key = path.split('/').nth(1).unwrap().to_owned();
        assert!(busy.lock().insert(key.clone()), "two of one key at once");
        let again = rand::random_ratio(1, 3) && failed.lock().insert(path.to_owned());
        busy.lock().remove(&key);
        Some((if again { 500 } else { 200 }, String::new()))
    })
    .await;
    let it = TestEngine::with(&format!(
        r#"
queues: {{in: {{}}, out: {{}}}}
rules:
  ordered:
    on: {{queue: in}}
    order_by: .data.key
    concurrency: 8
    retry: {{first: 1ms, max: 5ms}}
    do:
      - http: {{method: GET, endpoint: '{url}/\(.data.key)/\(.data.n)'}}
      - publish: {{exchange: "", routing_key: out}}
"#,
        url = hooks.url
    ))
    .await;
    let mut client = it.client();
    for n in 0..200 {
        client.publish("", "in", &format!(r#"{{"key": "k{}", "n": {n}}}"#, n % 7)).await;
    }
    it.until("ordered", |(_, acted, ..)| acted == 200).await;
    let mut last: HashMap<String, u64> = HashMap::new();
    for (path, _, said) in hooks.seen.lock().iter() {
        let (key, n) = path[1..].split_once('/').unwrap();
        let n: u64 = n.parse().unwrap();
        let before = last.entry(key.to_owned()).or_default();
        assert!(n >= *before, "{path} came after {before}");
        if *said == Some(200) {
            *before = n + 1;
        }
    }
    let mut last: HashMap<String, u64> = HashMap::new();
    for _ in 0..200 {
        let event = client.get("out").await.json();
        let (key, n) = (event["key"].to_string(), event["n"].as_u64().unwrap());
        let before = last.insert(key.clone(), n + 1).unwrap_or_default();
        assert!(n >= before, "{key}: {n} was published after {before}");
    }
}

fn two_targets(one: &str, other: &str, more: &str) -> String {
    format!(
        r#"
queues: {{in: {{}}, out: {{}}}}
rules:
  call:
    on: {{queue: in}}
{more}
    do:
      - http: {{endpoint: '\(if .data.good then "{other}" else "{one}" end)/\(.data.n)', timeout: 300s}}
      - publish: {{exchange: "", routing_key: out}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_does_not_hold_up_messages_for_others() {
    let hanging = Hooks::start(|_, _| None).await;
    let good = Hooks::start(|_, _| ok("{}")).await;
    let it = TestEngine::with(&two_targets(&hanging.url, &good.url, "    concurrency: 3")).await;
    let mut client = it.client();
    // More than a rule has in hand.
    for n in 0..1500 {
        client.publish("", "in", &format!(r#"{{"n": {n}}}"#)).await;
    }
    for n in 0..20 {
        client.publish("", "in", &format!(r#"{{"n": {n}, "good": true}}"#)).await;
    }
    for _ in 0..20 {
        client.get("out").await;
    }
    assert_eq!(hanging.count("/"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_asks_to_be_left_alone_is_and_others_are_not() {
    let busy = Hooks::start(|_, _| Some((429, String::new()))).await;
    let good = Hooks::start(|_, _| ok("{}")).await;
    let more = "    concurrency: 2\n    retry: {first: 1ms}";
    let it = TestEngine::with(&two_targets(&busy.url, &good.url, more)).await;
    let mut client = it.client();
    for n in 0..50 {
        client.publish("", "in", &format!(r#"{{"n": {n}}}"#)).await;
        client.publish("", "in", &format!(r#"{{"n": {n}, "good": true}}"#)).await;
    }
    for _ in 0..50 {
        client.get("out").await;
    }
    it.until("call", |(seen, ..)| seen == 100).await;
    assert!(busy.count("/") <= 2, "{} requests to a host that said 429", busy.count("/"));
    assert_eq!(it.counts("call").3, 0, "nothing is parked");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_host_is_back_all_that_waited_for_it_goes_on() {
    let down = Arc::new(Mutex::new(true));
    let told = down.clone();
    let hooks =
        Hooks::start(move |_, _| if *told.lock() { Some((503, String::new())) } else { ok("{}") }).await;
    let more = "    retry: {max_attempts: 1000, first: 1ms, max: 5ms}";
    let it = TestEngine::with(&two_targets(&hooks.url, &hooks.url, more)).await;
    let mut client = it.client();
    for n in 0..300 {
        client.publish("", "in", &format!(r#"{{"n": {n}}}"#)).await;
    }
    it.until("call", |(seen, _, retried, _)| seen == 300 && retried > 40).await;
    *down.lock() = false;
    for _ in 0..300 {
        client.get("out").await;
    }
    it.until("call", |(_, acted, _, failed)| (acted, failed) == (300, 0)).await;
}

/// What the ledger knows is not done again, whatever fails, stops or breaks off in between, and nothing is lost or
/// published twice.
#[test]
fn effects_on_record_are_not_repeated_through_breaks_at_random_places() {
    const MESSAGES: usize = 120;
    let outside = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let say = |_: &str, _: &str| Some((if rand::random_ratio(1, 4) { 500 } else { 200 }, "{}".to_owned()));
    let hooks = outside.block_on(Hooks::start(say));
    let topology = format!(
        r#"
queues: {{in: {{}}, out: {{}}}}
rules:
  steps:
    on: {{queue: in}}
    retry: {{max_attempts: 1000, first: 1ms, max: 3ms}}
    do:
      - {{name: a, http: {{endpoint: '{url}/a/\(.data)'}}}}
      - publish: {{exchange: "", routing_key: out, body: .data}}
      - {{name: b, http: {{endpoint: '{url}/b/\(.results.a.status)/\(.data)'}}}}
      - http: {{endpoint: '{url}/c/\(.results.b.status)/\(.data)'}}
"#,
        url = hooks.url
    );
    let mut data = tempfile::tempdir().unwrap();
    let mut published: Vec<String> = Vec::new();
    for round in 0.. {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let it = runtime.block_on(async {
            let it = open_engine(data, Clock::system()).await;
            let mut client = it.client();
            if round == 0 {
                it.apply(&topology).await;
                for n in 0..MESSAGES {
                    // Half of the ids are the same: they tell nobody apart.
                    client
                        .publish_with("", "in", n.to_string().as_bytes(), &with_id(&format!("m{}", n % 60)))
                        .await;
                }
            }
            // Somewhere in the middle.
            let from = it.counts("steps").1;
            let some = rand::random_range(1..40);
            let wait = in_time("some messages", async {
                while it.counts("steps").1 < from + some
                    && client.ready("out") + (published.len() as u64) < MESSAGES as u64
                {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            wait.await;
            while let Some(seen) = client.try_get("out").await {
                published.push(seen.body);
            }
            if rand::random() {
                it.engine.shut_down().await;
            }
            it
        });
        data = it.break_off(runtime);
        if published.len() >= MESSAGES || round > 60 {
            break;
        }
    }
    let distinct: HashSet<_> = published.iter().collect();
    assert_eq!((published.len(), distinct.len()), (MESSAGES, MESSAGES), "lost or published twice");
    check_steps(&hooks);
}

/// No step was done again after a later one was begun, and repetitions have the same key.
fn check_steps(hooks: &Hooks) {
    // Once a later step of a message was begun, the earlier one is on record.
    let mut reached: HashMap<String, (char, String)> = HashMap::new();
    for (path, key, _) in hooks.seen.lock().iter() {
        let step = path.chars().nth(1).unwrap();
        let message = path.rsplit('/').next().unwrap().to_owned();
        let (before, _) = reached.entry(message.clone()).or_insert((step, key.clone()));
        assert!(step >= *before, "message {message}: step {step} was done again after {before}");
        *before = step;
    }
    let keys: HashMap<_, HashSet<_>> =
        hooks.seen.lock().iter().fold(HashMap::new(), |mut keys, (path, key, _)| {
            keys.entry(path.clone()).or_insert_with(HashSet::new).insert(key.clone());
            keys
        });
    assert!(keys.values().all(|keys| keys.len() == 1), "a repetition has the same key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_fails_for_good_goes_on_with_its_on_error() {
    let topology = r#"
exchanges: {target: {type: fanout}}
queues: {in: {}, out: {}}
rules:
  r:
    on: {queue: in}
    retry: {max_attempts: 2, first: 1ms}
    do:
      - publish: {exchange: "", routing_key: out, body: '"before"'}
      - publish: {exchange: target}
        on_error:
          - publish: {exchange: "", routing_key: out, body: .error}
      - publish: {exchange: "", routing_key: out, body: '"behind"'}
"#;
    let it = TestEngine::with(topology).await;
    let mut client = it.client();
    let name = millpond_model::ExchangeName::new("target").unwrap();
    let gone = client.session.delete_exchange(&name, false).unwrap();
    client.wait(gone).await;
    client.publish("", "in", "1").await;
    assert_eq!(client.get("out").await.body, "before");
    let error = client.get("out").await.json();
    assert_eq!((&error["action"], &error["attempts"]), (&"publish".into(), &2.into()), "{error}");
    assert!(error["message"].as_str().unwrap().contains("no exchange 'target'"), "{error}");
    it.until("r", |counts| counts == (1, 1, 1, 0)).await;
    assert_eq!(client.ready("out"), 0, "what stands behind it is not published");
}

/// A message is known by its place in its queue: another queue of that name has other messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_made_anew_has_nothing_on_record() {
    let hooks =
        Hooks::start(|path, _| if path == "/b" { Some((500, String::new())) } else { ok("{}") }).await;
    let topology = format!(
        r#"
queues: {{in: {{}}}}
rules:
  r:
    on: {{queue: in}}
    retry: {{first: 1h, max: 1h}}
    do:
      - http: {{endpoint: "{url}/a"}}
      - http: {{endpoint: "{url}/b"}}
"#,
        url = hooks.url
    );
    let it = TestEngine::with(&topology).await;
    let mut client = it.client();
    client.publish_with("", "in", b"1", &with_id("m")).await;
    it.until("r", |(_, _, retried, _)| retried == 1).await;
    let (_, gone) = client.session.delete_queue(&crate::support::queue("in"), false, false).unwrap();
    client.wait(gone).await;
    let (_, made) = client.session.declare_queue(&crate::support::durable("in")).unwrap();
    client.wait(made).await;
    client.publish_with("", "in", b"1", &with_id("m")).await;
    it.until("r", |(_, _, retried, _)| retried == 2).await;
    assert_eq!((hooks.count("/a"), hooks.count("/b")), (2, 2), "it is another message");
}

/// A lease that ends would hand the message out a second time while the first attempts go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_keeps_what_it_has_in_hand_whatever_lease_its_queue_gives() {
    let hooks = Hooks::start(|_, _| Some((500, String::new()))).await;
    let topology = format!(
        r#"
queues: {{in: {{arguments: {{x-consumer-timeout: 100}}}}}}
rules:
  r:
    on: {{queue: in}}
    retry: {{max_attempts: 3, first: 500ms, factor: 1, jitter: 0}}
    do:
      - http: {{endpoint: "{url}/a"}}
"#,
        url = hooks.url
    );
    let it = TestEngine::with(&topology).await;
    let mut client = it.client();
    client.publish("", "in", "1").await;
    client.get("r.failed").await;
    assert_eq!((hooks.count("/a"), it.counts("r")), (3, (1, 0, 2, 1)));
}
