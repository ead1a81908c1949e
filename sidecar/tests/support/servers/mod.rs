//! Real servers for tests: started on loopback by the test, and gone with it.
//!
//! Each server is held by a small shell that ends it and removes its folder as soon as the test's
//! end of a pipe closes, so that a test that panics or is killed leaves nothing behind.

#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use parking_lot::Mutex;

pub mod nats;
pub mod pgbouncer;
pub mod postgres;
pub mod redis;

/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does what it reads, a word a line, to the command that are its arguments.
///
/// A signal to the test's whole group, as Ctrl-C sends one, leaves it to clean up.
const HOLDER: &str = r#"
trap : INT TERM HUP
pid=
family() { echo $pid $(cat /proc/$pid/task/$pid/children 2>/dev/null); }
while read -r word; do
    case $word in
    start) "$@" >>"$DIR/log" 2>&1 </dev/null & pid=$! ;;
    kill) kill -9 $(family); wait $pid ;;
    pause) kill -STOP $(family) ;;
    resume) kill -CONT $(family) ;;
    esac
    echo done
done 2>/dev/null
[ -z "$pid" ] || kill -9 $(family) 2>/dev/null
wait
# What the program has started itself may write for another moment.
rm -rf "$DIR" 2>/dev/null || { sleep 0.2; rm -rf "$DIR"; }
"#;

/// A program that runs in the background.
#[derive(Debug)]
pub struct Server {
    pub dir: PathBuf,
    pub port: u16,
    holder: Mutex<Holder>,
}

#[derive(Debug)]
struct Holder {
    shell: Child,
    answers: BufReader<process::ChildStdout>,
}

impl Server {
    /// Prepares `program` in an empty folder; `arguments` are given the folder and a free port.
    /// `owner` is a user and a group for programs that won't run as root.
    fn prepare(
        program: &Path,
        owner: Option<(u32, u32)>,
        arguments: impl FnOnce(&Path, u16) -> Vec<String>,
    ) -> Self {
        let port = free_port();
        let dir = env::temp_dir().join(format!("warp-test-{}-{port}", process::id()));
        fs::create_dir(&dir).unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", HOLDER, "holder"]).arg(program).args(arguments(&dir, port));
        shell.env("DIR", &dir).current_dir(&dir);
        if let Some((user, group)) = owner {
            chown(&dir, Some(user), Some(group)).unwrap();
            shell.uid(user).gid(group);
        }
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(shell.stdout.take().unwrap());
        Self { dir, port, holder: Mutex::new(Holder { shell, answers }) }
    }

    fn tell(&self, word: &str) {
        let mut holder = self.holder.lock();
        writeln!(holder.shell.stdin.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        holder.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "the shell that holds {} has gone", self.dir.display());
    }

    /// Starts it, and waits until `is_ready`.
    fn start_until(&self, is_ready: impl Fn(&Self) -> bool) {
        self.tell("start");
        let begun = Instant::now();
        while !is_ready(self) {
            assert!(begun.elapsed() < PATIENCE, "it doesn't start:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// As `kill -9` does it.
    pub fn kill(&self) {
        self.tell("kill");
    }

    /// It no longer runs, and its connections stay open.
    pub fn pause(&self) {
        self.tell("pause");
    }

    /// It runs again.
    pub fn resume(&self) {
        self.tell("resume");
    }

    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Some(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let holder = self.holder.get_mut();
        drop(holder.shell.stdin.take());
        let _ = holder.shell.wait();
    }
}

/// A program's path, in `folders` or in PATH; tells how to install what is missing.
fn find(program: &str, folders: &[&str]) -> PathBuf {
    let path = env::var("PATH").unwrap_or_default();
    let folders = folders.iter().copied().chain(path.split(':'));
    let found = folders.map(|folder| Path::new(folder).join(program)).find(|file| file.exists());
    found.unwrap_or_else(|| {
        panic!(
            "{program} isn't installed, and this test needs it: run \
             e2e/cluster/install-packages.sh"
        )
    })
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whom PostgreSQL and PgBouncer run as when the test is root, which they refuse to be: the owner
/// that their package made, or nobody.
fn unprivileged() -> Option<(u32, u32)> {
    (fs::metadata("/proc/self").unwrap().uid() == 0).then(|| {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let id = |line: &str, field| line.split(':').nth(field)?.parse().ok();
        let postgres = passwd.lines().find(|line| line.starts_with("postgres:"));
        postgres.and_then(|line| Some((id(line, 2)?, id(line, 3)?))).unwrap_or((65534, 65534))
    })
}

/// A certificate authority and a certificate for 127.0.0.1 in `dir`: `ca.pem`, `server.pem`,
/// `server.key`.
fn certificates(dir: &Path) {
    let config = "[req]\ndistinguished_name=dn\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\n\
        [leaf]\nsubjectAltName=IP:127.0.0.1\n";
    fs::write(dir.join("openssl.cnf"), config).unwrap();
    let mut script = String::from("set -e\n");
    for (key, rest) in [
        ("ca", "-subj /CN=ca -extensions ca -out ca.pem"),
        ("server", "-subj /CN=server -extensions leaf -CA ca.pem -CAkey ca.key -out server.pem"),
    ] {
        writeln!(
            script,
            "openssl req -config openssl.cnf -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
             -nodes -days 2 -keyout {key}.key {rest}"
        )
        .unwrap();
    }
    let made = Command::new("/bin/sh").args(["-c", &script]).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}
