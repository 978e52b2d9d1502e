//! The binary as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// The binary, with none of the environment's settings.
pub(crate) fn millpond() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MILLPOND_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// What a command says: its exit status, standard output, standard error.
pub(crate) fn said(words: &[&str]) -> (i32, String, String) {
    let output = millpond().args(words).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// What a broker is started with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BrokerOptions<'a> {
    pub(crate) environment: &'a [(&'a str, &'a str)],
    pub(crate) settings: &'a [&'a str],
}

/// A broker with a data directory of its own, killed when it is dropped.
pub(crate) struct Broker {
    folder: tempfile::TempDir,
    process: Child,
    amqp: String,
    http: String,
}

impl Broker {
    /// Comes back when it says where it listens.
    pub(crate) fn start(options: BrokerOptions<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let mut process = millpond()
            .args(["serve", "--amqp-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(options.settings)
            .envs(options.environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        let stdout = process.stdout.take().expect("it is piped");
        let (mut amqp, mut http) = (String::new(), String::new());
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.trim().strip_prefix("AMQP 0-9-1  ") {
                amqp = address.to_owned();
            }
            // The last line.
            if let Some(address) = line.trim().strip_prefix("health      http://") {
                http = address.trim_end_matches("/health").to_owned();
                break;
            }
        }
        let broker = Self { folder, process, amqp, http };
        assert!(!broker.http.is_empty(), "it does not serve: {}", broker.log());
        broker
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A command for this broker.
    pub(crate) fn ask(&self, words: &[&str]) -> (i32, String, String) {
        said(&[words, &["--data-dir", self.data_dir().to_str().expect("text")]].concat())
    }

    /// A command for this broker that reads this on standard input.
    pub(crate) fn ask_with(&self, words: &[&str], input: &str) -> (i32, String) {
        let mut command = millpond();
        command.args(words).arg("--data-dir").arg(self.data_dir());
        let mut asked =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary runs");
        asked.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
        let output = asked.wait_with_output().expect("it ends");
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command with the settings that this broker has.
    pub(crate) fn ask_as_served(&self, words: &[&str]) -> (i32, String, String) {
        self.ask(&[words, &["--amqp-listen", &self.amqp, "--http-listen", &self.http]].concat())
    }

    /// What the management API answers to `GET /rules` or the like, asked by the default user.
    pub(crate) fn http(&self, line: &str, body: &str) -> (u16, serde_json::Value) {
        let (method, path) = line.split_once(' ').expect("method and path");
        let mut stream = std::net::TcpStream::connect(&self.http).expect("it listens");
        // guest:guest
        let head = format!(
            "{method} /api{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer of HTTP");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    /// Where HTTP is served.
    pub(crate) fn http_address(&self) -> &str {
        &self.http
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal: `-HUP`.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill is there").success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait().expect("it ends")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
