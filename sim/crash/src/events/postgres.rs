//! A PostgreSQL server of the harness' own: as a user without rights, in a temporary directory, gone with the harness.

use anyhow::{Context, Result, bail, ensure};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `nobody`: the server refuses to run as root.
const NOBODY: u32 = 65534;

/// Runs the server until the harness is gone, whatever became of it: then its end of the pipe closes.
const KEEPER: &str = r#"dir=$1; shift; "$@" </dev/null >"$dir/log" 2>&1 & pid=$!; read -r _; kill -INT $pid 2>/dev/null; wait $pid; rm -rf "$dir""#;

/// See the module.
pub(super) struct Postgres {
    port: u16,
    dir: PathBuf,
    keeper: Child,
}

impl Postgres {
    pub(super) async fn start(patience: Duration) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("millpond-crash-pg-").tempdir()?.keep();
        let root = rustix::process::geteuid().is_root();
        if root {
            chown(&dir, Some(NOBODY), Some(NOBODY))?;
        }
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let data = dir.join("data");
        let mut initdb = command(&find("initdb")?, root);
        initdb
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data);
        let output = initdb.output().context("initdb")?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let mut keeper = command(Path::new("/bin/sh"), root);
        keeper.arg("-c").arg(KEEPER).arg("keeper").arg(&dir).arg(find("postgres")?).arg("-D").arg(&data);
        keeper.arg("-k").arg(&dir).arg("-p").arg(port.to_string());
        for setting in ["listen_addresses=127.0.0.1", "fsync=off", "wal_level=logical", "shared_buffers=16MB"]
        {
            keeper.arg("-c").arg(setting);
        }
        let keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { port, dir, keeper };
        let begun = Instant::now();
        while let Err(error) = server.client().await {
            if begun.elapsed() > patience {
                let mut log = String::new();
                std::fs::File::open(server.dir.join("log"))?.read_to_string(&mut log)?;
                bail!("PostgreSQL does not listen: {error:#}: {log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    pub(super) async fn client(&self) -> Result<tokio_postgres::Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn command(program: &Path, root: bool) -> Command {
    let mut command = Command::new(program);
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    command
}

/// Where Debian puts the server's programs.
fn find(program: &str) -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut all = versions.map(|it| it.path().join("bin").join(program));
    let found = all.find(|path| path.is_file());
    found.with_context(|| format!("no {program} in /usr/lib/postgresql: apt-get install postgresql"))
}
