//! The server as a process of its own, to be killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tollgate_client::Client;

/// A server process.
pub struct ServerProcess {
    child: Child,
    /// Where it listens.
    pub url: String,
}

/// A folder of its own for a test, on the disk of the build.
pub fn free_folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The `tollgate` binary of this build.
pub fn tollgate_binary() -> PathBuf {
    beside_tests("tollgate")
}

/// The server that aborts at a named step.
pub fn stop_at_step_binary() -> PathBuf {
    beside_tests("stop-at-step")
}

fn beside_tests(name: &str) -> PathBuf {
    // target/<profile>/deps/<test> -> target/<profile>/<name>
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join(name);
    assert!(
        path.exists(),
        "{} is missing: build it with `cargo build -p tollgate-cli -p tollgate-testkit --bins`",
        path.display()
    );
    path
}

impl ServerProcess {
    /// Starts a binary with a configuration file and waits until it listens.
    pub fn start(binary: &Path, config: &Path, environment: &[(&str, &str)]) -> Self {
        Self::start_logging(binary, config, environment, Stdio::null())
    }

    /// The same, with a place for its log.
    pub fn start_logging(binary: &Path, config: &Path, environment: &[(&str, &str)], log: Stdio) -> Self {
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(config).stdout(Stdio::piped()).stderr(log);
        command.envs(environment.iter().copied());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok()?.strip_prefix("listening on ").map(str::to_owned));
        let Some(url) = line else {
            let status = child.wait().unwrap();
            panic!("the server ended before it listened: {status}");
        };
        Self { child, url }
    }

    /// A client of it.
    pub fn client(&self, bearer: &str) -> Client {
        Client::new(&self.url, bearer)
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it is gone by itself.
    pub fn wait(mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
