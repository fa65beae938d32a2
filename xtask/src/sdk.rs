//! The official SDKs, unmodified, against the release binary: installed here if they are missing.
#![expect(clippy::print_stderr, reason = "a task tells what it does")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run;

const MANAGEMENT_KEY: &str = "sk-or-v1-5d6b5d6b5d6b5d6b5d6b5d6b5d6b5d6b5d6b5d6b5d6b5d6b5d6b5d6b5d6b5d6b";
const MODEL: &str = "tollgate/simulated";

/// Installs what is missing, starts a server, and runs every script against it.
pub fn check(root: &Path) -> Result<()> {
    let (typescript, python) = (root.join("tests/sdk/typescript"), root.join("tests/sdk/python"));
    need("node", "apt-get install nodejs npm")?;
    if !typescript.join("node_modules/.package-lock.json").exists() {
        eprintln!("installing the TypeScript SDKs (npm)");
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--silent", "--prefix"]).arg(&typescript))?;
    }
    let interpreter = venv(root, "sdk-venv", &python.join("requirements.txt"))?;
    let server = Server::start(root, "")?;
    // Each coverage script runs all others of the OpenRouter SDK.
    for script in ["coverage.mjs", "openai_chat.mjs"] {
        server.drive(Command::new("node").arg(typescript.join(script)))?;
    }
    for script in ["coverage.py", "openai_chat.py"] {
        server.drive(Command::new(&interpreter).arg(python.join(script)))?;
    }
    Ok(())
}

/// A Python with what a list of requirements names, made under `target/` where it is missing or another.
pub fn venv(root: &Path, name: &str, requirements: &Path) -> Result<PathBuf> {
    need("python3", "apt-get install python3 python3-venv")?;
    let venv = root.join("target").join(name);
    let interpreter = venv.join("bin/python");
    let marker = venv.join("requirements.txt");
    let wanted = fs::read(requirements).with_context(|| requirements.display().to_string())?;
    if fs::read(&marker).ok().as_ref() != Some(&wanted) {
        eprintln!("installing into target/{name} (pip)");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(&interpreter)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(requirements))?;
        fs::write(&marker, &wanted)?;
    }
    Ok(interpreter)
}

fn need(tool: &str, how: &str) -> Result<()> {
    let found = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        bail!("{tool} is missing; get it with: {how}");
    }
    Ok(())
}

/// A server with the built-in provider.
pub struct Server {
    child: Child,
    url: String,
    folder: PathBuf,
}

impl Server {
    /// Starts the release binary on a database of its own, with more `settings` than it needs.
    pub fn start(root: &Path, settings: &str) -> Result<Self> {
        let folder = root.join("target").join(format!("sdk-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let config = folder.join("tollgate.toml");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"sqlite://{}\"\n[[providers]]\nslug = \"simulated\"\n\
             kind = \"simulated\"\n[[models]]\nid = \"{MODEL}\"\nprovider = \"simulated\"\ncontext_length = 8192\n\
             max_output_tokens = 4096\npricing = {{ prompt = \"0.00000015\", completion = \"0.0000006\" }}\n{settings}",
            folder.join("tollgate.db").display()
        );
        fs::write(&config, text)?;
        let mut child = Command::new(root.join("target/release/tollgate"))
            .args(["serve", "--config"])
            .arg(&config)
            .env("TOLLGATE_LOG__LEVEL", "warn")
            .env("TOLLGATE_BOOTSTRAP_MANAGEMENT_KEY", MANAGEMENT_KEY)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the release binary")?;
        let stdout = child.stdout.take().context("the server has no stdout")?;
        let line = BufReader::new(stdout).lines().next().context("the server said nothing")??;
        let url = line.strip_prefix("listening on ").context("the server did not say where it listens")?.to_owned();
        Ok(Self { child, url, folder })
    }

    /// Runs a script against it.
    pub fn drive(&self, script: &mut Command) -> Result<()> {
        script
            .env("TOLLGATE_URL", &self.url)
            .env("TOLLGATE_MANAGEMENT_KEY", MANAGEMENT_KEY)
            .env("TOLLGATE_MODEL", MODEL);
        run(script)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both are ours, and both may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
