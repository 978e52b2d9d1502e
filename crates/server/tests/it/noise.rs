//! Generated input: valid conversations, mutated. Whatever comes, the server answers in frames, the connection ends,
//! another one works on, and memory does not grow.

use millpond_amqp_codec::{
    Method, PROTOCOL_HEADER, ReplyCode, basic, channel, confirm, connection, encode_content, exchange, queue,
    tx,
};
use millpond_model::properties::Properties;
use millpond_testkit::{Client, Event, TestServer};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections that are tried.
const ROUNDS: u64 = 1500;

/// The bystander is asked for a whole round trip every so many of them.
const BYSTANDER_EVERY: u64 = 25;

/// What the process may grow by meanwhile. Bytes.
const GROWTH_MAX_BYTES: u64 = 256 << 20;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn frame<'a>(number: u16, method: impl Into<Method<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    method.into().encode(number, &mut out);
    out
}

/// Frames of the handshake, the protocol header first.
fn greeting() -> Vec<Vec<u8>> {
    let start = connection::StartOk {
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        locale: "en_US",
        ..Default::default()
    };
    vec![
        PROTOCOL_HEADER.to_vec(),
        frame(0, start),
        frame(0, connection::TuneOk { channel_max: 100, frame_max: 8192, heartbeat: 0 }),
        frame(0, connection::Open { virtual_host: "/", ..Default::default() }),
    ]
}

fn content(number: u16, body: &[u8]) -> Vec<Vec<u8>> {
    let properties = Properties {
        headers: [("CC", "one"), ("x", "y")].into_iter().collect(),
        expiration: Some("60000".into()),
        reply_to: Some("somewhere".into()),
        ..Properties::default()
    };
    let mut out = Vec::new();
    encode_content(&mut out, number, &properties.encode().unwrap(), body, 64);
    // Frames of their own, so that each is mutated, doubled and left out for itself.
    let mut frames = Vec::new();
    while !out.is_empty() {
        let size = u32::from_be_bytes([out[3], out[4], out[5], out[6]]) as usize + 8;
        let rest = out.split_off(size);
        frames.push(std::mem::replace(&mut out, rest));
    }
    frames
}

/// Frames of a valid conversation on that channel.
fn conversation(number: u16, random: &mut Random) -> Vec<Vec<u8>> {
    let publish = basic::Publish { routing_key: b"noise", mandatory: true, ..Default::default() };
    let exclusive = queue::Declare { queue: "noise", exclusive: true, ..Default::default() };
    let topic =
        exchange::Declare { exchange: "noise", kind: "topic", auto_delete: true, ..Default::default() };
    let mut frames = vec![frame(number, channel::Open::default())];
    match random.below(3) {
        0 => frames.push(frame(number, confirm::Select::default())),
        1 => frames.push(frame(number, tx::Select {})),
        _ => {}
    }
    frames.extend([
        frame(number, exclusive),
        frame(number, topic),
        frame(number, queue::Bind { exchange: "noise", routing_key: b"a.*.#", ..Default::default() }),
        frame(number, basic::Qos { prefetch_count: 3, ..Default::default() }),
        frame(number, basic::Consume { queue: "noise", consumer_tag: "c", ..Default::default() }),
    ]);
    for _ in 0..random.below(4) {
        frames.push(frame(number, publish));
        let body_size_bytes = random.below(300);
        frames.extend(content(number, &vec![7; body_size_bytes]));
    }
    frames.extend([
        frame(number, basic::Ack { delivery_tag: 1, multiple: false }),
        frame(number, basic::Nack { delivery_tag: 2, multiple: true, requeue: true }),
        frame(number, basic::Recover { requeue: true }),
        frame(number, basic::Get { queue: "noise", ..Default::default() }),
        frame(number, tx::Commit {}),
        frame(number, basic::Cancel { consumer_tag: "c", no_wait: false }),
        frame(number, queue::Purge::default()),
        frame(number, queue::Delete { queue: "noise", ..Default::default() }),
        frame(number, channel::Close { reply_code: 200, ..Default::default() }),
    ]);
    frames
}

/// One change to a list of frames or to the bytes of one.
fn mutate(frames: &mut Vec<Vec<u8>>, random: &mut Random) {
    let at = random.below(frames.len());
    let other = random.below(frames.len());
    let kind = random.below(12);
    match kind {
        0 => frames.swap(at, other),
        1 => frames.insert(other, frames[at].clone()),
        2 if frames.len() > 1 => drop(frames.remove(at)),
        _ => {}
    }
    let at = random.below(frames.len());
    let bytes = &mut frames[at];
    if bytes.is_empty() {
        return;
    }
    let place = random.below(bytes.len());
    match kind {
        3 => bytes[place] ^= 1 << random.below(8),
        4 => bytes[place] = random.next() as u8,
        5 => bytes[place] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        6 => bytes.truncate(place),
        7 => bytes.insert(place, random.next() as u8),
        8 => drop(bytes.drain(place..bytes.len().min(place + 4))),
        // The size, so that it agrees with nothing, or with a lot.
        9 if bytes.len() > 7 => bytes[3 + random.below(4)] = random.next() as u8,
        // A method or class that there may be.
        10 if bytes.len() > 11 => bytes[7 + random.below(4)] = random.below(130) as u8,
        // Four bytes that are a length, mostly.
        11 if bytes.len() > place + 4 => bytes[place..place + 4].copy_from_slice(&[0xff; 4]),
        _ => {}
    }
}

/// Mutated bytes; whether the handshake is among them.
fn noise(random: &mut Random) -> (Vec<u8>, bool) {
    let with_greeting = random.below(5) == 0;
    let mut frames = if with_greeting { greeting() } else { Vec::new() };
    frames.extend(conversation(1, random));
    if random.below(3) == 0 {
        let second = conversation(2, random);
        // Two channels, frame by frame.
        for (at, piece) in second.into_iter().enumerate() {
            frames.insert((2 * at + 1).min(frames.len()), piece);
        }
    }
    for _ in 0..=random.below(4) {
        mutate(&mut frames, random);
    }
    (frames.concat(), with_greeting)
}

/// Hears the server out; every reply code must fit what it closes.
async fn hear_out(client: &mut Client, seed: u64) {
    loop {
        match client.event().await {
            Event::End => return,
            Event::Closed { code, text } => {
                let hard = ReplyCode::from_code(code).is_some_and(|code| code.is_hard());
                assert!(hard || code == 403, "seed {seed}: connection.close {code} {text}");
            }
            Event::ChannelClosed { code, text, .. } => {
                let soft = ReplyCode::from_code(code).is_some_and(|code| !code.is_hard());
                assert!(soft, "seed {seed}: channel.close {code} {text}");
            }
            _ => {}
        }
    }
}

/// Publishes, is confirmed, and gets the message back.
async fn round_trip(client: &mut Client, body: &[u8]) {
    client.publish_to(1, "bystander", body).await;
    assert!(matches!(client.event().await, Event::Ack { .. }));
    client.send(1, basic::Get { queue: "bystander", no_ack: true, ..Default::default() }).await;
    match client.event().await {
        Event::Got { content, .. } => assert_eq!(content.body, body),
        other => panic!("{other:?}"),
    }
}

/// What the process has in memory. Bytes; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_conversations_end_in_order_and_harm_nobody_else() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(info);
    }));
    let server = TestServer::start().await;
    let mut bystander = Client::connect(server.amqp()).await;
    bystander.open_channel(1).await;
    bystander.declare_queue(1, "bystander", true).await;
    bystander.send(1, confirm::Select::default()).await;
    bystander.expect("confirm.select-ok").await;
    let resident = resident_bytes();
    for seed in 1..=ROUNDS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (bytes, with_greeting) = noise(&mut random);
        let mut client = match with_greeting {
            true => Client::connect_raw(server.amqp()).await,
            false => Client::connect(server.amqp()).await,
        };
        client.send_bytes(&bytes).await;
        client.end_input().await;
        hear_out(&mut client, seed).await;
        if seed % BYSTANDER_EVERY == 0 {
            round_trip(&mut bystander, &seed.to_be_bytes()).await;
            let grown = resident_bytes().saturating_sub(resident);
            assert!(grown < GROWTH_MAX_BYTES, "after seed {seed} there are {grown} bytes more in memory");
        }
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a connection ended by a panic");
    bystander.close().await;
}
