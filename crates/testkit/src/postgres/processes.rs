//! Signals to a server: to its first process, and to those that it started.
//!
//! Each of them is a group of its own, so they are found by their parent.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::{PATIENCE, POLL};

/// Looks until something is so. Whether it was in time.
pub(super) fn until(mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

/// Sends a signal. A process that is gone already needs none.
pub(super) fn send(process: u32, signal: Signal) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(process, signal);
    }
}

/// Puts a server to sleep, its first process first: it could start more.
pub(super) fn stop_all(postmaster: u32) {
    for process in stopped_family(postmaster) {
        send(process, Signal::STOP);
        assert!(until(|| state(process).is_none_or(|(state, _)| "TZ".contains(state))), "a process does not sleep");
    }
}

/// Wakes a server.
pub(super) fn wake_all(postmaster: u32) {
    for child in children(postmaster) {
        send(child, Signal::CONT);
    }
    send(postmaster, Signal::CONT);
}

/// Kills a server and waits until its processes let go of everything; its first process is left to be waited for.
pub(super) fn kill_all(postmaster: u32) {
    let family = stopped_family(postmaster);
    for process in &family {
        send(*process, Signal::KILL);
    }
    for process in family {
        assert!(until(|| state(process).is_none_or(|(state, _)| state == 'Z')), "a process survived its death");
    }
}

/// The first process, which sleeps from now on, and all that it started.
fn stopped_family(postmaster: u32) -> Vec<u32> {
    send(postmaster, Signal::STOP);
    assert!(until(|| state(postmaster).is_none_or(|(state, _)| "TZ".contains(state))), "the server does not sleep");
    let mut family = children(postmaster);
    family.push(postmaster);
    family
}

fn children(parent: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|process| state(*process).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// The state of a process and its parent; none where it is gone.
fn state(process: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which may hold anything.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
