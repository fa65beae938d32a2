//! A flush of the disk, and how to make it slow.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;

use crate::table::median;

const SHIM: &str = include_str!("../slow_flush.c");
const FLUSHES: usize = 101;
const PIECE_BYTES: usize = 4096;

/// Compiles what a program is preloaded with to flush slowly, where anybody may read it.
pub fn shim(folder: &Path) -> Result<PathBuf> {
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let shim = folder.join("slow_flush.so");
    let mut compiler = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-x", "c", "-", "-ldl", "-o"])
        .arg(&shim)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run cc")?;
    compiler.stdin.take().context("cc takes no input")?.write_all(SHIM.as_bytes())?;
    ensure!(compiler.wait()?.success(), "cc refuses the shim");
    Ok(shim)
}

/// The median time of a flush of a little data in `folder`, in microseconds.
pub fn median_us(folder: &Path) -> Result<f64> {
    let mut file = File::create(folder.join("flushed"))?;
    let mut times = Vec::new();
    for _ in 0..FLUSHES {
        file.write_all(&[1; PIECE_BYTES])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}
