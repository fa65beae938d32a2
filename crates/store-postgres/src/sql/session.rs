//! Opening a database: what is refused, and how sessions are set up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use tollgate_domain::{IdCipher, Timestamp};

use super::{
    CHANNEL, CONNECT_TIMEOUT, IDLE_TIMEOUT, LEASE_SESSIONS, LEDGER_SESSIONS, LOCK_TIMEOUT, MANAGEMENT_SESSIONS,
};
use super::{STATEMENT_TIMEOUT, Sql, migrate, pool, session, tls, values};
use crate::seam::Broken;

/// How to open a database.
#[derive(Clone)]
pub struct Options {
    /// `postgres://user:password@host/database`, with `sslmode` and `sslrootcert` as libpq knows them.
    pub url: String,
    /// Random bytes, used once in the life of a database: for its ids.
    pub seed: [u8; 32],
    /// The time of a first start.
    pub now: Timestamp,
    /// Whether a server that does not flush what it commits will do. For tests.
    pub without_fsync: bool,
}

/// Why a database could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be read. The message does not repeat it.
    #[error("database.url cannot be read: {0}")]
    Url(String),
    /// The certificates of `sslrootcert` cannot be read.
    #[error("sslrootcert cannot be read: {0}")]
    Authorities(String),
    /// The server cannot be reached, or refuses.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// A commit there does not survive a crash.
    #[error("the server runs with `{0}`: a commit would not survive a crash")]
    Unsafe(&'static str),
    /// Not every text can be kept in it.
    #[error("the database's encoding is {0}, which cannot keep every text")]
    Encoding(String),
    /// It takes no writes.
    #[error("the server is a standby, which takes no writes")]
    Standby,
    /// A later release wrote it.
    #[error("the database was written by a newer release of tollgate")]
    Newer,
    /// An applied migration is not the one in this release.
    #[error("migration {0} is not the one that was applied to the database")]
    Altered(i64),
    /// What is in it contradicts itself.
    #[error("the database is damaged: {0}")]
    Damaged(String),
}

impl From<Broken> for OpenError {
    fn from(Broken(why): Broken) -> Self {
        Self::Unreachable(why)
    }
}

impl From<tokio_postgres::Error> for OpenError {
    fn from(error: tokio_postgres::Error) -> Self {
        values::broken(&error).into()
    }
}

/// Between two questions whether a silent peer is still there, and how many of them it leaves unanswered.
const KEEPALIVE: Duration = Duration::from_secs(2);
const KEEPALIVES: u32 = 3;

const SAFE: &str = "SELECT current_setting('fsync') = 'on', pg_is_in_recovery(), current_setting('server_encoding')";

/// What every session is set up with, whatever the server's defaults are.
fn configure(url: &str) -> Result<(Config, MakeRustlsConnect), OpenError> {
    let (mut config, tls) = tls::read(url)?;
    let asked = config.get_options().unwrap_or_default().to_owned();
    // Plans follow the primary keys, whatever the planner believes of a table that was empty a minute ago.
    let settings = format!(
        "{asked} -c synchronous_commit=on -c lock_timeout={} -c statement_timeout={} \
         -c idle_in_transaction_session_timeout={} -c tcp_user_timeout={} -c enable_seqscan=off -c enable_hashjoin=off \
         -c enable_mergejoin=off -c jit=off -c default_transaction_isolation=read\\ committed",
        LOCK_TIMEOUT.as_millis(),
        STATEMENT_TIMEOUT.as_millis(),
        IDLE_TIMEOUT.as_millis(),
        // A server that cannot get rid of its answer does not count as idle, and keeps its locks.
        STATEMENT_TIMEOUT.as_millis(),
    );
    config
        .options(&settings)
        .application_name("tollgate")
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(STATEMENT_TIMEOUT)
        .keepalives_interval(KEEPALIVE)
        .keepalives_retries(KEEPALIVES)
        .tcp_user_timeout(STATEMENT_TIMEOUT);
    Ok((config, tls))
}

impl Sql {
    /// Connects, brings the schema up to date, and listens for changes.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed unless the database was opened.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let (config, tls) = configure(&options.url)?;
        let (ledger, management) = (pool(&config, &tls, LEDGER_SESSIONS)?, pool(&config, &tls, MANAGEMENT_SESSIONS)?);
        let lease = pool(&config, &tls, LEASE_SESSIONS)?;
        let mut first = session(&management).await?;
        let safe = first.query_one(SAFE, &[]).await?;
        let encoding: String = safe.try_get(2)?;
        if encoding != "UTF8" {
            return Err(OpenError::Encoding(encoding));
        }
        if safe.try_get::<_, bool>(1)? {
            return Err(OpenError::Standby);
        }
        if !safe.try_get::<_, bool>(0)? && !options.without_fsync {
            return Err(OpenError::Unsafe("fsync = off"));
        }
        let id_key = migrate::migrate(&mut first, &options.seed, options.now).await?;
        let changed = Arc::new(Notify::new());
        #[expect(clippy::disallowed_methods, reason = "it lives as long as the database is open, and holds nothing")]
        let listener = tokio::spawn(listen(config, tls, Arc::clone(&changed)));
        let cipher = IdCipher::new(id_key);
        Ok(Self { ledger, management, lease, cipher, present: parking_lot::Mutex::default(), changed, listener })
    }
}

/// Hears of changes, on a session of its own. A session that is lost may have missed one.
async fn listen(config: Config, tls: MakeRustlsConnect, changed: Arc<Notify>) {
    loop {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(tls.clone())).await;
        if let Ok(Ok((client, mut connection))) = connected {
            let messages = async {
                while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                    match message {
                        Ok(AsyncMessage::Notification(_)) => changed.notify_one(),
                        Ok(_) => {}
                        Err(_) => return,
                    }
                }
            };
            let subscribe = async {
                let done = client.batch_execute(&format!("LISTEN {CHANNEL}")).await;
                changed.notify_one();
                // The session lives as long as its client does.
                if done.is_ok() {
                    std::future::pending::<()>().await;
                }
            };
            futures_util::future::select(Box::pin(messages), Box::pin(subscribe)).await;
        }
        tokio::time::sleep(CONNECT_TIMEOUT).await;
    }
}
