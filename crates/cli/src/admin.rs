//! The door for commands that need the database while a server owns it: a socket beside the file, mode 0600.
//!
//! One JSON object a line in, one out.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tollgate_app::App;
use tollgate_domain::key::{ManagementKey, ManagementKeyId, Powers};
use tollgate_domain::money::Excess;
use tollgate_domain::{KeyHash, Timestamp, Usd};
use tollgate_store::{Actor, StoreError, WorkspaceRef};
use uuid::Uuid;

use crate::commands::doctor::Diagnosis;
use crate::failure::{Failure, Kind};
use crate::storage::Storage;

/// Until a command has asked and was told.
const CONVERSATION_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a question.
const ASK_BYTES_MAX: u64 = 64 << 10;
/// Commands that are answered at the same time.
const CONVERSATIONS_MAX: usize = 16;
/// The pause where no command can be heard.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// What a command asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// The management keys in force.
    ListManagementKeys,
    /// A new one.
    CreateManagementKey {
        /// Its name.
        name: String,
        /// Whether it may look and not touch.
        #[serde(default)]
        read_only: bool,
        /// When it stops working, RFC 3339, UTC.
        #[serde(default)]
        expires_at: Option<String>,
        /// The workspace that it is limited to: its slug, or its UUID.
        #[serde(default)]
        workspace: Option<String>,
    },
    /// The end of one.
    RevokeManagementKey {
        /// Its number.
        id: i64,
    },
    /// Whether the ledger adds up.
    Examine {
        /// Whether what does not is put right.
        repair: bool,
        /// Whether the clock is taken as it is.
        accept_clock: bool,
    },
    /// A copy of the database.
    Backup {
        /// The file to write.
        path: PathBuf,
    },
    /// What was spent since a copy was made, and whether that was all.
    OpenAdmission {
        /// Hashes of keys, and USD.
        spent: Vec<(String, String)>,
        /// Whether admission opens.
        accept: bool,
    },
}

/// What it is told.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "snake_case")]
pub enum Tell {
    /// The management keys in force.
    ManagementKeys {
        /// Them.
        keys: Vec<ManagementKeyLine>,
    },
    /// A new one, with its secret.
    Created {
        /// It.
        key: ManagementKeyLine,
        /// Its secret, shown this once.
        secret: String,
    },
    /// Whether there was one to revoke.
    Revoked {
        /// Whether there was.
        found: bool,
    },
    /// What the doctor saw.
    Examined {
        /// It.
        diagnosis: Diagnosis,
    },
    /// How far it is; more follows.
    Progress {
        /// What is left.
        left: i32,
        /// All there is.
        all: i32,
    },
    /// The copy is whole.
    BackedUp,
    /// Whether calls are admitted.
    Admission {
        /// Whether they are.
        open: bool,
    },
    /// It could not be done.
    Failed {
        /// Why.
        why: String,
    },
}

/// A management key as commands show it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ManagementKeyLine {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The mask of its secret.
    pub label: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// Whether it may look and not touch.
    pub read_only: bool,
    /// Whether it is limited to a workspace.
    #[serde(default)]
    pub limited: bool,
    /// When it stops working, RFC 3339, UTC.
    pub expires_at: Option<String>,
}

impl From<ManagementKey> for ManagementKeyLine {
    fn from(key: ManagementKey) -> Self {
        Self {
            id: key.id.0,
            name: key.name,
            label: key.label,
            created_at: key.created_at.to_string(),
            read_only: key.powers.read_only,
            limited: key.powers.workspace.is_some(),
            expires_at: key.powers.expires_at.map(|at| at.to_string()),
        }
    }
}

/// Looks whether a ledger adds up.
pub async fn examine(storage: &Storage, repair: bool, accept_clock: bool) -> Tell {
    let examined = async {
        if accept_clock {
            storage.accept_clock().await?;
        }
        let mended = if repair { storage.mend().await?.findings } else { Vec::new() };
        let report = storage.examine().await?;
        Ok::<_, StoreError>(Diagnosis::of(&report, &mended, storage.cipher()))
    };
    match examined.await {
        Ok(diagnosis) => Tell::Examined { diagnosis },
        Err(error) => Tell::Failed { why: error.to_string() },
    }
}

/// Copies a database.
pub async fn backup(storage: &Storage, path: &Path, step: impl FnMut(i32, i32) -> bool + Send + 'static) -> Tell {
    match storage.backup(path, step).await {
        Ok(()) => Tell::BackedUp,
        Err(error) => Tell::Failed { why: error.to_string() },
    }
}

/// Books what was spent since a copy was made, and opens admission if that was all.
pub async fn open_admission(storage: &Storage, spent: &[(String, String)], accept: bool) -> Tell {
    let opened = async {
        let store = storage.store();
        let mut entered = Vec::new();
        for (hash, usd) in spent {
            let parsed = KeyHash::parse(hash).zip(Usd::parse(usd, Excess::Refuse).ok());
            let (key, amount) = parsed.ok_or_else(|| format!("`{hash}={usd}` cannot be read"))?;
            if store.key(&key).await.map_err(|error| error.to_string())?.is_none() {
                return Err(format!(
                    "there is no key {hash} in this copy: enter what it spent under another one of its workspace; nothing was entered"
                ));
            }
            entered.push((key, amount));
        }
        for (place, (key, amount)) in entered.iter().enumerate() {
            let charged = storage.charge_key(key, *amount).await;
            charged
                .map_err(|error| format!("{error}; of the {} keys the first {place} were entered", entered.len()))?;
        }
        if accept {
            storage.open_admission().await.map_err(|error| error.to_string())?;
        }
        storage.is_closed().await.map_err(|error| error.to_string())
    };
    match opened.await {
        Ok(closed) => Tell::Admission { open: !closed },
        Err(why) => Tell::Failed { why },
    }
}

/// Does what is asked.
pub async fn perform(app: &App, ask: Ask) -> Tell {
    let done = match ask {
        Ask::Examine { .. } | Ask::Backup { .. } | Ask::OpenAdmission { .. } => {
            Err("this is asked of the database itself".to_owned())
        }
        Ask::ListManagementKeys => app
            .management_keys()
            .await
            .map(|keys| Tell::ManagementKeys { keys: keys.into_iter().map(Into::into).collect() })
            .map_err(|error| error.to_string()),
        Ask::CreateManagementKey { name, read_only, expires_at, workspace } => {
            create(app, &name, read_only, expires_at.as_deref(), workspace.as_deref()).await
        }
        Ask::RevokeManagementKey { id } => app
            .revoke_management_key(ManagementKeyId(id), &Actor::Operator)
            .await
            .map(|found| Tell::Revoked { found })
            .map_err(|error| error.to_string()),
    };
    done.unwrap_or_else(|why| Tell::Failed { why })
}

async fn create(
    app: &App,
    name: &str,
    read_only: bool,
    expires_at: Option<&str>,
    workspace: Option<&str>,
) -> Result<Tell, String> {
    let expires_at = expires_at.map(Timestamp::parse_utc).transpose();
    let expires_at = expires_at.map_err(|error| format!("the expiry {error}"))?;
    let workspace = match workspace {
        None => None,
        Some(text) => {
            let which = Uuid::try_parse(text).map_or_else(|_| WorkspaceRef::Slug(text.to_owned()), WorkspaceRef::Id);
            let found = app.workspace(&which).await.map_err(|error| error.to_string())?;
            Some(found.ok_or_else(|| format!("there is no workspace `{text}`"))?.id)
        }
    };
    let powers = Powers { read_only, expires_at, workspace };
    let created = app.create_management_key(name, powers, &Actor::Operator).await;
    let (key, secret) = created.map_err(|error| error.to_string())?;
    Ok(Tell::Created { key: key.into(), secret: secret.reveal().to_owned() })
}

/// Asks the server that owns the database at `database`.
///
/// # Errors
/// Nobody answers at its socket.
pub async fn ask(database: &Path, ask: &Ask, mut progress: impl FnMut(i32, i32)) -> Result<Tell, Failure> {
    let path = socket_path(database);
    let unreachable = |error: std::io::Error| {
        let fact = format!("the database is in use, and its owner does not answer at {}: {error}", path.display());
        Failure::new(Kind::Unreachable, fact).next("run this as the user who runs `tollgate serve`")
    };
    let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
    let (reading, mut writing) = stream.into_split();
    let line = serde_json::to_string(ask).unwrap_or_default();
    writing.write_all(format!("{line}\n").as_bytes()).await.map_err(unreachable)?;
    let mut reading = BufReader::new(reading);
    loop {
        let mut told = String::new();
        reading.read_line(&mut told).await.map_err(unreachable)?;
        let told = serde_json::from_str(&told)
            .map_err(|error| Failure::new(Kind::Failed, format!("the server's answer cannot be read: {error}")))?;
        match told {
            Tell::Progress { left, all } => progress(left, all),
            told => return Ok(told),
        }
    }
}

/// The bound socket; removed when it is dropped.
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Binds the socket of a database that this process owns.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn bind(database: &Path) -> Result<Self, Failure> {
        let path = socket_path(database);
        let failed = |error: std::io::Error| Failure::new(Kind::Failed, format!("{}: {error}", path.display()));
        // The database is ours, so a socket that is there was left by a process that is gone.
        if path.exists() {
            std::fs::remove_file(&path).map_err(failed)?;
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path: path.clone() })
    }

    /// Answers, until the returned future is dropped. A copy takes long, and keeps no other command waiting.
    pub async fn serve(self, app: App, storage: Storage) {
        let mut conversations = FuturesUnordered::new();
        loop {
            let conversed = tokio::select! {
                Some(conversed) = conversations.next() => conversed,
                accepted = self.listener.accept(), if conversations.len() < CONVERSATIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        conversations.push(converse(stream, &app, &storage));
                        continue;
                    }
                    Err(error) => {
                        tokio::time::sleep(FAILURE_PAUSE).await;
                        Err(error)
                    }
                },
            };
            if let Err(error) = conversed {
                tracing::warn!(%error, "a command broke off");
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Left behind it does no harm: the next owner removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse(stream: UnixStream, app: &App, storage: &Storage) -> std::io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut asked = String::new();
    let mut reading = BufReader::new(reading.take(ASK_BYTES_MAX));
    in_time(reading.read_line(&mut asked)).await?;
    let told = match serde_json::from_str(&asked) {
        // These take as long as the database is large.
        Ok(Ask::Backup { path }) => {
            let (report, mut reports) = mpsc::channel(1);
            let step = move |left, all| {
                // One that is not read in time is not missed. Without a reader, whoever asked is gone.
                !matches!(report.try_send((left, all)), Err(TrySendError::Closed(_)))
            };
            let copied = backup(storage, &path, step);
            let mut copied = std::pin::pin!(copied);
            loop {
                tokio::select! {
                    told = &mut copied => break told,
                    Some((left, all)) = reports.recv() => tell(&mut writing, &Tell::Progress { left, all }).await?,
                }
            }
        }
        Ok(Ask::Examine { repair: true, .. }) => {
            Tell::Failed { why: "the server is at work: stop it, then run `tollgate doctor --repair`".to_owned() }
        }
        Ok(Ask::Examine { repair: false, accept_clock }) => examine(storage, false, accept_clock).await,
        Ok(Ask::OpenAdmission { spent, accept }) => open_admission(storage, &spent, accept).await,
        Ok(ask) => in_time(async { Ok(perform(app, ask).await) }).await?,
        Err(error) => Tell::Failed { why: error.to_string() },
    };
    tell(&mut writing, &told).await
}

async fn tell(writing: &mut OwnedWriteHalf, told: &Tell) -> std::io::Result<()> {
    let line = serde_json::to_string(told).unwrap_or_default();
    in_time(writing.write_all(format!("{line}\n").as_bytes())).await
}

async fn in_time<T>(done: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    tokio::time::timeout(CONVERSATION_TIMEOUT, done).await.map_err(late)?
}

fn socket_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".sock");
    PathBuf::from(name)
}
