//! Runs every fuzz target for a while. `cargo test` replays their corpus without any of this.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Seconds of each target where nobody says.
const SECONDS: u32 = 60;
/// Bytes of the longest input.
const INPUT_BYTES_MAX: u32 = 1 << 16;
/// Megabytes that a target may take: what the product may take is asserted by the properties themselves.
const MEGABYTES_MAX: u32 = 1_024;
/// Seconds that one input may take.
const INPUT_SECONDS_MAX: u32 = 10;

/// Runs them for as long as `arguments` say.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let seconds = seconds(arguments)?;
    if !crate::installed("cargo-fuzz") {
        bail!("cargo-fuzz is not installed here; get it with `cargo install cargo-fuzz`");
    }
    // The same dependencies as everywhere else, and libFuzzer.
    fs::copy(root.join("Cargo.lock"), root.join("fuzz/Cargo.lock")).context("cannot write fuzz/Cargo.lock")?;
    let mut targets = Vec::new();
    for entry in fs::read_dir(root.join("fuzz/fuzz_targets")).context("there are no fuzz targets")? {
        let path = entry?.path();
        targets.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    targets.sort();
    for target in targets {
        crate::step(&format!("{target}, {seconds} s"));
        // What is new is kept apart from what was chosen by hand.
        let found = format!("fuzz/target/corpus/{target}");
        fs::create_dir_all(root.join(&found)).with_context(|| format!("cannot make {found}"))?;
        let run = ["fuzz", "run", "--sanitizer", "none", &target, &found, &format!("fuzz/corpus/{target}"), "--"];
        let limits = [
            format!("-max_total_time={seconds}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            format!("-rss_limit_mb={MEGABYTES_MAX}"),
            format!("-timeout={INPUT_SECONDS_MAX}"),
            "-print_final_stats=1".to_owned(),
        ];
        crate::run(Command::new("cargo").args(run).args(limits))
            .with_context(|| format!("what failed lies in fuzz/artifacts/{target}; keep it in fuzz/corpus/{target}"))?;
    }
    Ok(())
}

fn seconds(arguments: &[String]) -> Result<u32> {
    match arguments {
        [] => Ok(SECONDS),
        [flag, seconds] if flag == "--seconds" => seconds.parse().context("--seconds takes a whole number"),
        _ => bail!("usage: cargo xtask fuzz [--seconds N]"),
    }
}
