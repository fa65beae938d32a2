//! A PostgreSQL server that takes nobody in the clear: `sslmode` and `sslrootcert` of the URL, in libpq's sense.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::sync::Arc;

use rcgen::CertifiedKey;
use testkit::postgres::{Cluster, Options as ClusterOptions};
use testkit::{ManualClock, free_folder};
use tokio_postgres::{Client, NoTls};
use tollgate_domain::Timestamp;
use tollgate_store_postgres::{OpenError, Options, PostgresStore};

/// The superuser may look without encryption; tollgate's user may do nothing without.
const WHO_MAY: &str = "host all postgres 127.0.0.1/32 trust\nhostssl all tollgate 127.0.0.1/32 scram-sha-256";

/// A server with a certificate for `localhost`, a user `tollgate` and a database of the same name.
async fn server(certificate: &CertifiedKey<rcgen::KeyPair>) -> (Cluster, Client) {
    let cluster = Cluster::start(ClusterOptions::default());
    let client = superuser(&cluster).await;
    let files = [
        ("server.crt", certificate.cert.pem()),
        ("server.key", certificate.signing_key.serialize_pem()),
        ("pg_hba.conf", WHO_MAY.to_owned()),
    ];
    for (name, text) in files {
        // By the server itself: the files are its user's, and nobody else may read the key.
        let copy =
            format!("COPY (SELECT unnest(string_to_array('{text}', E'\\n'))) TO PROGRAM 'umask 077; cat > {name}'");
        client.batch_execute(&copy).await.unwrap();
    }
    for statement in [
        "CREATE ROLE tollgate LOGIN PASSWORD 'pass?word'",
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

async fn open(url: String) -> Result<PostgresStore, OpenError> {
    let options = Options { url, seed: [7; 32], now: Timestamp::default(), without_fsync: true };
    tollgate_store_postgres::open(options, Arc::new(ManualClock::at("2026-01-01T00:00:00Z"))).await
}

fn pem(folder: &Path, name: &str, certificate: &CertifiedKey<rcgen::KeyPair>) -> String {
    let file = folder.join(name);
    std::fs::write(&file, certificate.cert.pem()).unwrap();
    file.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_encrypted_and_the_server_is_checked_as_the_url_asks() {
    let [own, other] = [(); 2].map(|()| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
    let (cluster, superuser) = server(&own).await;
    let folder = free_folder();
    let (own, other) = (pem(folder.path(), "own.pem", &own), pem(folder.path(), "other.pem", &other));
    let port = cluster.address().port();
    let url = |host: &str, settings: &str| format!("postgres://tollgate:pass?word@{host}:{port}/tollgate{settings}");

    let taken = [
        ("127.0.0.1", String::new()),
        ("127.0.0.1", "?sslmode=prefer".to_owned()),
        ("127.0.0.1", "?sslmode=require".to_owned()),
        ("127.0.0.1", "?sslmode=require&channel_binding=require".to_owned()),
        ("127.0.0.1", format!("?sslmode=require&sslrootcert={own}")),
        ("127.0.0.1", format!("?sslmode=verify-ca&sslrootcert={own}")),
        ("localhost", format!("?sslmode=verify-full&sslrootcert={own}")),
    ];
    for (host, settings) in taken {
        let store = open(url(host, &settings)).await.unwrap_or_else(|error| panic!("{host}{settings}: {error}"));
        // Those that it works on, and the one that listens.
        let seen = "SELECT count(*) FILTER (WHERE query LIKE 'LISTEN%'), coalesce(bool_and(ssl), false)
            FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE usename = 'tollgate'";
        let encrypted = loop {
            let seen = superuser.query_one(seen, &[]).await.unwrap();
            if seen.get::<_, i64>(0) > 0 {
                break seen.get::<_, bool>(1);
            }
        };
        assert!(encrypted, "{host}{settings}");
        store.close().await.unwrap();
    }

    let refused = [
        ("127.0.0.1", "?sslmode=disable".to_owned(), "no encryption"),
        ("127.0.0.1", "?sslmode=verify-ca".to_owned(), "UnknownIssuer"),
        ("localhost", "?sslmode=verify-full&sslrootcert=system".to_owned(), "UnknownIssuer"),
        ("127.0.0.1", format!("?sslmode=verify-full&sslrootcert={own}"), "not valid for name"),
        ("localhost", format!("?sslmode=verify-full&sslrootcert={other}"), "BadSignature"),
        ("127.0.0.1", format!("?sslmode=require&sslrootcert={other}"), "BadSignature"),
        ("127.0.0.1", format!("?sslrootcert={other}"), "BadSignature"),
    ];
    for (host, settings, why) in refused {
        let error = open(url(host, &settings)).await.err().unwrap_or_else(|| panic!("{host}{settings}: it was opened"));
        assert!(matches!(error, OpenError::Unreachable(_)), "{host}{settings}: {error}");
        assert!(error.to_string().contains(why), "{host}{settings}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_encryption_is_refused_where_it_is_required() {
    let url = Cluster::shared().create_database("in_the_clear").await;
    let error = open(format!("{url}?sslmode=require")).await.err().unwrap();
    assert!(error.to_string().contains("does not support TLS"), "{error}");
    open(url).await.unwrap().close().await.unwrap();
}
