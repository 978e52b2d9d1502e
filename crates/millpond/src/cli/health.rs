//! `millpond health`: asks a broker's `/health`, for containers and scripts without an HTTP client.

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long connecting, and each read or write, may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const ANSWER_MAX_BYTES: u64 = 64 << 10;

/// What `/health` said.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) is_well: bool,
    /// JSON.
    pub(super) body: String,
}

/// Prints what the broker of these settings says; an error if it is not well.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    if let Some(check) = matches.get_one::<String>("check") {
        let place = format!("/health/checks/{check}");
        let settings = super::settings_of(matches)?;
        return super::print(&super::api::get_from(&settings.data_dir, &place)?.to_string());
    }
    let health = ask(super::settings_of(matches)?.http_listen)?;
    match health.is_well {
        true => super::print(&health.body),
        false => bail!("{}", health.body),
    }
}

/// Asks the broker that listens there.
pub(super) fn ask(listen: SocketAddr) -> Result<Health> {
    let address = reachable(listen);
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(ANSWER_MAX_BYTES).read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let answer = exchange().with_context(|| format!("no answer from http://{address}/health"))?;
    read(&answer).with_context(|| format!("http://{address}/health gives no answer of Millpond's"))
}

/// Who listens everywhere is asked on this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn read(answer: &str) -> Option<Health> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status: u16 = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    json.get("status")?;
    Some(Health { is_well: status == 200, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_ours_is_one() {
        let well = read("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"status\":\"ok\"}").unwrap();
        assert_eq!((well.is_well, well.body.as_str()), (true, "{\"status\":\"ok\"}"));
        let ill = read("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"failed\"}").unwrap();
        assert!(!ill.is_well);
        for answer in
            ["", "HTTP/1.1 200 OK\r\n\r\n<html>", "SSH-2.0-x\r\n\r\n{}", "HTTP/1.1 200 OK\r\n\r\n{}"]
        {
            assert!(read(answer).is_none(), "{answer}");
        }
    }

    #[test]
    fn who_listens_everywhere_is_asked_on_this_machine() {
        for (listen, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
