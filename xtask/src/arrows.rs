//! Which crate may depend on which. A new edge is a design decision.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Each crate with the crates of this workspace that it may depend on.
const ARROWS: [(&str, &[&str]); 14] = [
    ("domain", &[]),
    ("wire", &["domain"]),
    ("store", &["domain"]),
    ("engine", &["domain", "store"]),
    ("store-sqlite", &["domain", "engine", "store"]),
    ("store-postgres", &["domain", "engine", "store"]),
    ("simulate", &["app", "domain", "engine", "gateway", "store", "store-postgres", "store-sqlite"]),
    ("app", &["domain", "store"]),
    ("gateway", &["app", "domain", "store"]),
    ("http", &["app", "domain", "gateway", "store", "wire"]),
    ("client", &["wire"]),
    (
        "cli",
        &["app", "client", "domain", "engine", "gateway", "http", "store", "store-postgres", "store-sqlite", "wire"],
    ),
    (
        "testkit",
        &[
            "app",
            "cli",
            "client",
            "domain",
            "engine",
            "gateway",
            "http",
            "store",
            "store-postgres",
            "store-sqlite",
            "wire",
        ],
    ),
    ("xtask", &[]),
];

/// Nothing depends on them, and they may depend on everything.
const BENCHES: [&str; 2] = ["bench-upstream", "bench-engines"];

/// Fails on an edge that is not drawn.
pub fn check(root: &Path) -> Result<()> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata said nothing readable")?;
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let name = name.strip_prefix("tollgate-").unwrap_or(name);
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            if !BENCHES.contains(&name) {
                wrong.push(format!("{name} is not in the drawing"));
            }
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let Some(target) = dependency["name"].as_str().and_then(|name| name.strip_prefix("tollgate-")) else {
                continue;
            };
            let for_tests = dependency["kind"] == "dev";
            if !for_tests && !allowed.contains(&target) {
                wrong.push(format!("{name} -> {target}"));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("these arrows are not in ARCHITECTURE.md: {}", wrong.join(", "));
    }
    Ok(())
}
