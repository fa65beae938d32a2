//! Encrypted sessions with a PostgreSQL server, as `sslmode` and `sslrootcert` of the URL ask for them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use testkit::postgres::{Cluster, Options as ClusterOptions};
use testkit::{ManualClock, free_folder};
use tokio_postgres::{Client, NoTls};
use tollgate_domain::Timestamp;
use tollgate_store_postgres::{OpenError, Options, PostgresStore};

/// Everybody chooses, but for `sealed`, who must encrypt.
const WHO_MAY: &str = "host all postgres 127.0.0.1/32 trust
host all tollgate 127.0.0.1/32 scram-sha-256
hostssl all sealed 127.0.0.1/32 scram-sha-256";

/// How long a session may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(30);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server whose certificate for `localhost` this authority signed, and its superuser.
async fn server(authority: &Authority) -> (Cluster, Client) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let cluster = Cluster::start(ClusterOptions::default());
    let client = superuser(&cluster).await;
    let files =
        [("server.crt", certificate.pem()), ("server.key", key.serialize_pem()), ("pg_hba.conf", WHO_MAY.to_owned())];
    for (name, text) in files {
        // By the server itself: the files are its user's, and nobody else may read the key.
        let lines = format!("SELECT unnest(string_to_array('{text}', E'\\n'))");
        client.batch_execute(&format!("COPY ({lines}) TO PROGRAM 'umask 077; cat > {name}'")).await.unwrap();
    }
    for statement in [
        "CREATE ROLE tollgate LOGIN PASSWORD 'pass?word'",
        "CREATE ROLE sealed LOGIN PASSWORD 'pass?word'",
        "CREATE DATABASE tollgate OWNER tollgate",
        "ALTER SYSTEM SET ssl = on",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
    drop(client);
    cluster.restart();
    let client = superuser(&cluster).await;
    (cluster, client)
}

async fn superuser(cluster: &Cluster) -> Client {
    let (client, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with its client")]
    tokio::spawn(connection);
    client
}

async fn open(url: &str) -> Result<PostgresStore, OpenError> {
    let options = Options { url: url.to_owned(), seed: [7; 32], now: Timestamp::default(), without_fsync: true };
    tollgate_store_postgres::open(options, Arc::new(ManualClock::at("2026-01-01T00:00:00Z"))).await
}

/// Waits until tollgate's sessions are as they should be; which of them are encrypted.
async fn sessions(superuser: &Client, as_wanted: impl Fn(&[(bool, bool)]) -> bool) -> Vec<(bool, bool)> {
    const SEEN: &str = "SELECT query LIKE 'LISTEN%', ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
        WHERE application_name = 'tollgate'";
    let seen = async {
        loop {
            let rows = superuser.query(SEEN, &[]).await.unwrap();
            let seen: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            if as_wanted(&seen) {
                return seen;
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap()
}

fn pem(folder: &Path, name: &str, authority: &Authority) -> String {
    let file = folder.join(name);
    std::fs::write(&file, authority.pem()).unwrap();
    file.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_encrypted_and_the_server_is_checked_as_the_url_asks() {
    let (own, other) = (authority("own"), authority("other"));
    let (cluster, superuser) = server(&own).await;
    let folder = free_folder();
    let (own, other) = (pem(folder.path(), "own.pem", &own), pem(folder.path(), "other.pem", &other));
    let port = cluster.address().port();
    let url = |user: &str, host: &str, settings: &str| {
        format!("postgres://{user}:pass?word@{host}:{port}/tollgate?hostaddr=127.0.0.1{settings}")
    };

    let taken = [
        ("localhost", "&sslmode=disable".to_owned(), false),
        ("localhost", String::new(), true),
        ("localhost", "&sslmode=prefer".to_owned(), true),
        ("elsewhere", "&sslmode=require".to_owned(), true),
        ("elsewhere", "&sslmode=require&channel_binding=require".to_owned(), true),
        ("elsewhere", format!("&sslmode=require&sslrootcert={own}"), true),
        ("127.0.0.1", format!("&sslmode=verify-ca&sslrootcert={own}"), true),
        ("localhost", format!("&sslmode=verify-full&sslrootcert={own}"), true),
    ];
    for (host, settings, encrypted) in taken {
        let url = url("tollgate", host, &settings);
        let store = open(&url).await.unwrap_or_else(|error| panic!("{host}{settings}: {error}"));
        // Those that it works on, and the one that listens.
        let seen = sessions(&superuser, |seen| seen.len() > 1 && seen.iter().any(|(listens, _)| *listens)).await;
        assert!(seen.iter().all(|(_, ssl)| *ssl == encrypted), "{host}{settings}: {seen:?}");
        store.close().await.unwrap();
        drop(store);
        sessions(&superuser, <[_]>::is_empty).await;
    }

    let refused = [
        ("sealed", "localhost", "&sslmode=disable".to_owned(), "no encryption"),
        ("tollgate", "localhost", "&sslmode=verify-full".to_owned(), "UnknownIssuer"),
        ("tollgate", "localhost", "&sslrootcert=system".to_owned(), "UnknownIssuer"),
        ("tollgate", "elsewhere", format!("&sslmode=verify-full&sslrootcert={own}"), "not valid for name"),
        ("tollgate", "localhost", format!("&sslmode=verify-full&sslrootcert={other}"), "UnknownIssuer"),
        ("tollgate", "localhost", format!("&sslmode=verify-ca&sslrootcert={other}"), "UnknownIssuer"),
        ("tollgate", "localhost", format!("&sslmode=require&sslrootcert={other}"), "UnknownIssuer"),
    ];
    for (user, host, settings, why) in refused {
        let opened = open(&url(user, host, &settings)).await;
        let error = opened.err().unwrap_or_else(|| panic!("{host}{settings}: it was opened"));
        assert!(matches!(error, OpenError::Unreachable(_)), "{host}{settings}: {error}");
        assert!(error.to_string().contains(why), "{host}{settings}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_encryption_is_refused_where_it_is_required() {
    let url = Cluster::shared().create_database("in_the_clear").await;
    let error = open(&format!("{url}?sslmode=require")).await.err().unwrap();
    assert!(error.to_string().contains("does not support TLS"), "{error}");
    open(&url).await.unwrap().close().await.unwrap();
}
