//! A real nats-server for the tests, on a free port of the loopback, gone with its handle.
//!
//! The program is the one named by `WARP_NATS_SERVER`, or the one found in `PATH`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

/// The program.
pub(crate) fn binary() -> PathBuf {
    let named = std::env::var_os("WARP_NATS_SERVER").map(PathBuf::from);
    let found = named.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join("nats-server")).find(|p| p.is_file())
    });
    found.expect(
        "this test needs a nats-server: make unit brings one, or let WARP_NATS_SERVER name it",
    )
}

/// A folder that goes with the handle.
pub(crate) struct Folder {
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let name = format!("warp-operator-test-{:016x}", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self { path }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: Folder,
}

impl Server {
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server with the configuration that `config` makes for its folder. Its ports are set
/// from here.
pub(crate) async fn start(config: impl FnOnce(&Path) -> String) -> Server {
    let folder = Folder::new();
    let file = folder.path.join("nats.conf");
    std::fs::write(&file, config(&folder.path)).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(binary())
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-m", "-1"])
        .arg("-P")
        .arg(folder.path.join("pid"))
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.path.join("log")).unwrap())
        .spawn()
        .unwrap();
    let mut server = Server { child, port, folder };
    for _ in 0..600 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return server;
        }
        if server.child.try_wait().unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = std::fs::read_to_string(server.folder.path.join("log")).unwrap();
    panic!("nats-server didn't start: {log}");
}
