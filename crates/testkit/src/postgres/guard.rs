//! Ends a server and removes its folder when the process that wanted them is gone, even by `kill -9`.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use parking_lot::Mutex;

/// It is told which process to end, in lines. The end of the lines is the end of whoever held the pipe.
const SCRIPT: &str = r#"
while read -r line; do server=$line; done
if [ -n "$server" ] && kill -QUIT "$server"; then
    # A server that was put to sleep wakes up to end.
    kill -CONT "$server"
    for _ in $(seq 100); do [ -e "$1/data/postmaster.pid" ] && sleep 0.1 || break; done
    [ -e "$1/data/postmaster.pid" ] && kill -KILL "$server"
fi
rm -rf -- "$1"
"#;

#[derive(Debug)]
pub(super) struct Guard {
    shell: Child,
    lines: Mutex<Option<ChildStdin>>,
}

impl Guard {
    pub(super) fn over(folder: &Path) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(folder)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = Mutex::new(shell.stdin.take());
        Self { shell, lines }
    }

    /// Names the process to end: none once it is gone, since its number may then be anybody's.
    pub(super) fn watch(&self, server: Option<u32>) {
        if let Some(lines) = self.lines.lock().as_mut() {
            let server = server.map(|id| id.to_string()).unwrap_or_default();
            writeln!(lines, "{server}").unwrap();
        }
    }

    /// Has it do its work now, as if this process were gone, and waits until it is done.
    pub(super) fn release(&mut self) {
        *self.lines.lock() = None;
        let _ = self.shell.wait();
    }
}
