//! Real database servers, one of each for all tests: started when first needed, as a user without rights, with
//! everything in a temporary directory, and gone with the test process.

use crate::support::{in_time, tls_file};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

/// `nobody`: servers refuse to run as root.
const NOBODY: u32 = 65534;

/// How often a server that starts is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Runs the server until the test process is gone, whatever became of it: then its end of the pipe closes.
const KEEPER: &str = r#"dir=$1; shift; "$@" </dev/null >"$dir/log" 2>&1 & pid=$!; read -r _; kill -QUIT $pid 2>/dev/null; sleep 0.2; kill -KILL $pid 2>/dev/null; rm -rf "$dir""#;

/// A server that runs.
pub(crate) struct DatabaseServer {
    pub(crate) port: u16,
    pub(crate) dir: PathBuf,
    _keeper: Child,
}

static POSTGRES: OnceCell<DatabaseServer> = OnceCell::const_new();
static MARIADB: OnceCell<DatabaseServer> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command as a user without rights.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C");
    command
}

fn done(mut command: Command, what: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(output.status.success(), "{what}: {}", show(&output));
}

fn show(output: &std::process::Output) -> String {
    [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it)).concat()
}

/// A directory of that user's own.
fn own_dir(name: &str) -> PathBuf {
    let dir = tempfile::Builder::new().prefix(name).tempdir().unwrap().keep();
    if is_root() {
        chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn own_file(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    if is_root() {
        chown(to, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where a program is; without it the tests fail, and say what to do.
fn find(program: &str, folders: &[&str], package: &str) -> PathBuf {
    let mut all: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        all.extend(versions.flatten().map(|it| it.path().join("bin")));
    }
    let found = all.iter().map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no {program} on this machine: apt-get install --no-install-recommends {package} (tests/all does)"
        )
    })
}

fn keep(dir: PathBuf, port: u16, program: &Path, arguments: &[String]) -> DatabaseServer {
    let mut keeper = command(Path::new("/bin/sh"));
    keeper.arg("-c").arg(KEEPER).arg("keeper").arg(&dir).arg(program).args(arguments);
    let keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    DatabaseServer { port, dir, _keeper: keeper }
}

impl DatabaseServer {
    fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(self.dir.join("log")) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }
}

fn fresh(prefix: &str) -> String {
    format!("{prefix}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A database of its own in a PostgreSQL server.
pub(crate) struct Postgres {
    pub(crate) server: &'static DatabaseServer,
    pub(crate) name: String,
    pub(crate) client: tokio_postgres::Client,
}

async fn start_postgres() -> DatabaseServer {
    let (dir, port) = (own_dir("millpond-pg-"), free_port());
    let data = dir.join("data");
    let mut initdb = command(&find("initdb", &["/usr/local/bin"], "postgresql"));
    initdb.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(&data);
    done(initdb, "initdb");
    own_file(&tls_file("server.pem"), &data.join("server.crt"));
    own_file(&tls_file("server.key"), &data.join("server.key"));
    let hba = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(data.join("pg_hba.conf"), hba).unwrap();
    let arguments = format!(
        "-D {0} -k {1} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off -c ssl=on -c wal_level=logical \
         -c max_replication_slots=20 -c max_wal_senders=4 -c max_connections=200 -c shared_buffers=16MB",
        data.display(),
        dir.display()
    );
    let arguments: Vec<_> = arguments.split_whitespace().map(str::to_owned).collect();
    let server = keep(dir, port, &find("postgres", &["/usr/local/bin"], "postgresql"), &arguments);
    in_time("PostgreSQL", async {
        while let Err(error) = postgres_client(port, "postgres").await {
            let log = server.log();
            let fatal = |line: &str| line.contains("FATAL: ") && !line.contains("starting up");
            assert!(!log.lines().any(fatal), "{error}: {log}");
            tokio::time::sleep(ASK_EVERY).await;
        }
    })
    .await;
    server
}

async fn postgres_client(port: u16, name: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let url = format!("host=127.0.0.1 port={port} user=postgres dbname={name} sslmode=disable");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl Postgres {
    pub(crate) async fn new() -> Self {
        let server = POSTGRES.get_or_init(start_postgres).await;
        let name = fresh("test");
        let admin = postgres_client(server.port, "postgres").await.unwrap();
        admin.batch_execute(&format!("create database {name}")).await.unwrap();
        let client = postgres_client(server.port, &name).await.unwrap();
        Self { server, name, client }
    }

    /// Another connection.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        postgres_client(self.server.port, &self.name).await.unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}?sslmode=disable", self.server.port, self.name)
    }

    pub(crate) async fn sql(&self, text: &str) {
        self.client.batch_execute(text).await.unwrap();
    }

    /// The answer's first column of its first row.
    pub(crate) async fn one(&self, text: &str) -> String {
        for message in self.client.simple_query(text).await.unwrap() {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                return row.get(0).unwrap_or("NULL").to_owned();
            }
        }
        panic!("{text}: no row")
    }
}

/// A database of its own in a MariaDB server.
pub(crate) struct MariaDb {
    pub(crate) server: &'static DatabaseServer,
    pub(crate) name: String,
    pub(crate) pool: mysql_async::Pool,
}

async fn start_mariadb() -> DatabaseServer {
    let (dir, port) = (own_dir("millpond-maria-"), free_port());
    let data = format!("--datadir={}", dir.join("data").display());
    let package = "mariadb-server-core mariadb-client-core";
    let mut install = command(&find("mariadb-install-db", &["/usr/bin", "/usr/local/bin"], package));
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &data]);
    done(install, "mariadb-install-db");
    let mut arguments = vec!["--no-defaults".to_owned(), data];
    arguments.push(format!("--socket={}/socket", dir.display()));
    arguments.push(format!("--pid-file={}/pid", dir.display()));
    arguments.push(format!("--port={port}"));
    for more in
        ["bind-address=127.0.0.1", "skip-name-resolve", "innodb-flush-log-at-trx-commit=0", "skip-log-bin"]
    {
        arguments.push(format!("--{more}"));
    }
    let server = keep(dir, port, &find("mariadbd", &["/usr/sbin", "/usr/local/sbin"], package), &arguments);
    in_time("MariaDB", async {
        let url = format!("mysql://root@127.0.0.1:{port}/mysql?prefer_socket=false");
        while let Err(error) = mysql_async::Conn::from_url(&url).await {
            assert!(!server.log().contains("Aborting"), "{error}: {}", server.log());
            tokio::time::sleep(ASK_EVERY).await;
        }
    })
    .await;
    server
}

impl MariaDb {
    pub(crate) async fn new() -> Self {
        use mysql_async::prelude::Queryable;
        let server = MARIADB.get_or_init(start_mariadb).await;
        let name = fresh("test");
        let url = format!("mysql://root@127.0.0.1:{}/mysql?prefer_socket=false", server.port);
        let mut admin = mysql_async::Conn::from_url(&url).await.unwrap();
        admin.query_drop(format!("create database {name} character set utf8mb4")).await.unwrap();
        let it = Self {
            server,
            pool: mysql_async::Pool::new(url.replace("/mysql?", &format!("/{name}?")).as_str()),
            name,
        };
        admin.disconnect().await.unwrap();
        it
    }

    pub(crate) fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/{}", self.server.port, self.name)
    }

    pub(crate) async fn client(&self) -> mysql_async::Conn {
        self.pool.get_conn().await.unwrap()
    }

    pub(crate) async fn sql(&self, text: &str) {
        use mysql_async::prelude::Queryable;
        self.client().await.query_drop(text).await.unwrap();
    }

    /// The answer's first column of its first row.
    pub(crate) async fn one(&self, text: &str) -> String {
        use mysql_async::prelude::Queryable;
        let found: Option<String> = self.client().await.query_first(text).await.unwrap();
        found.unwrap_or_else(|| panic!("{text}: no row"))
    }
}
