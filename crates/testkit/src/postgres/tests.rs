//! The cluster itself, with a client on it.

use std::path::Path;

use rustix::process::Signal;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, NoTls};

use super::{Cluster, Options, Stop, processes};

/// A client, and the end of its connection.
#[expect(clippy::disallowed_methods, reason = "the connection runs beside the test")]
async fn connect(url: &str) -> Result<(Client, JoinHandle<Result<(), Error>>), Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    Ok((client, tokio::spawn(connection)))
}

async fn count(url: &str) -> i64 {
    let (client, _) = connect(url).await.unwrap();
    client.query_one("SELECT count(*) FROM things", &[]).await.unwrap().get(0)
}

async fn setting(client: &Client, name: &str) -> String {
    client.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_cluster_has_databases_of_their_own_and_its_settings() {
    let settings = vec![("work_mem".to_owned(), "5MB".to_owned())];
    let cluster = Cluster::start(Options { fsync: true, settings, ..Options::default() });
    let one = cluster.create_database("one").await;
    let two = cluster.create_database("two").await;
    for url in [&one, &two] {
        let (client, _) = connect(url).await.unwrap();
        client.batch_execute("CREATE TABLE things (id int)").await.unwrap();
    }
    let (client, _) = connect(&one).await.unwrap();
    client.execute("INSERT INTO things VALUES (1)", &[]).await.unwrap();
    assert_eq!((count(&one).await, count(&two).await), (1, 0));
    let told = [setting(&client, "fsync").await, setting(&client, "work_mem").await];
    assert_eq!(told, ["on", "5MB"]);
    assert_eq!(cluster.address().ip().to_string(), "127.0.0.1");
}

#[tokio::test]
async fn the_shared_cluster_is_one() {
    let (client, _) = connect(&Cluster::shared().url()).await.unwrap();
    assert_eq!(setting(&client, "fsync").await, "off");
    assert_eq!(Cluster::shared().address(), Cluster::shared().address());
}

#[tokio::test]
async fn two_clusters_run_side_by_side() {
    let (one, two) = (Cluster::start(Options::default()), Cluster::start(Options::default()));
    assert_ne!(one.address(), two.address());
    one.stop(Stop::Immediate);
    assert!(connect(&one.url()).await.is_err());
    assert!(connect(&two.url()).await.is_ok());
}

#[tokio::test]
async fn a_port_that_is_taken_is_found_out() {
    let (one, mut two) = (Cluster::start(Options::default()), Cluster::start(Options::default()));
    two.stop(Stop::Fast);
    let port = std::mem::replace(&mut two.port, one.port);
    assert!(!two.launch());
    two.port = port;
    two.restart();
    assert!(connect(&two.url()).await.is_ok());
}

#[tokio::test]
async fn what_was_committed_survives_every_kind_of_end() {
    let cluster = Cluster::start(Options::default());
    let url = cluster.create_database("kept").await;
    let (client, _) = connect(&url).await.unwrap();
    client.batch_execute("CREATE TABLE things (id int)").await.unwrap();
    let ends: [fn(&Cluster); 4] = [
        |cluster| cluster.stop(Stop::Fast),
        |cluster| cluster.stop(Stop::Immediate),
        Cluster::kill9,
        // What sleeps can be ended too.
        |cluster| {
            cluster.pause();
            cluster.stop(Stop::Fast);
        },
    ];
    for (number, end) in (1..).zip(ends) {
        let (client, connection) = connect(&url).await.unwrap();
        client.batch_execute("INSERT INTO things VALUES (1)").await.unwrap();
        client.batch_execute("BEGIN; INSERT INTO things VALUES (2)").await.unwrap();
        end(&cluster);
        assert!(connection.await.unwrap().is_err(), "its client hears of it");
        assert!(connect(&url).await.is_err(), "nobody is there");
        cluster.restart();
        assert_eq!(count(&url).await, number, "{}", cluster.log());
    }
    // A running one too, and its address stays.
    cluster.restart();
    assert_eq!(count(&url).await, 4);
}

#[tokio::test]
async fn connections_are_cut_from_the_servers_side() {
    let cluster = Cluster::start(Options::default());
    let (first, first_end) = connect(&cluster.url()).await.unwrap();
    let (_second, second_end) = connect(&cluster.url()).await.unwrap();
    assert_eq!(cluster.cut_connections().await, 2);
    for end in [first_end, second_end] {
        assert_eq!(end.await.unwrap().unwrap_err().code().unwrap().code(), "57P01");
    }
    assert!(first.batch_execute("SELECT 1").await.unwrap_err().is_closed());
    assert_eq!(cluster.cut_connections().await, 0);
}

#[tokio::test]
async fn a_server_that_sleeps_answers_when_it_wakes() {
    let cluster = Cluster::start(Options::default());
    let (client, _) = connect(&cluster.url()).await.unwrap();
    let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    cluster.pause();
    // Whether somebody sleeps is asked, not waited for.
    let state = std::fs::read_to_string(format!("/proc/{backend}/stat")).unwrap();
    assert!(state.contains(") T "), "{state}");
    cluster.resume();
    assert_eq!(client.query_one("SELECT 7", &[]).await.unwrap().get::<_, i32>(0), 7);
}

#[test]
fn the_guard_ends_what_was_left_behind() {
    let mut cluster = Cluster::start(Options::default());
    let (folder, mut postmaster) = (cluster.folder.clone(), cluster.postmaster.lock().take().unwrap());
    assert!(folder.join("data/postmaster.pid").exists());
    // Even if it sleeps.
    processes::send(postmaster.id(), Signal::STOP);
    // What happens when a test's process is killed: the pipe ends, and nothing else does.
    let waiting = std::thread::spawn(move || postmaster.wait().unwrap());
    cluster.guard.release();
    waiting.join().unwrap();
    assert!(!folder.exists());
}

#[test]
fn a_dropped_cluster_leaves_nothing() {
    let (folder, postmaster) = {
        let cluster = Cluster::start(Options::default());
        (cluster.folder.clone(), cluster.id())
    };
    assert!(!folder.exists());
    assert!(!Path::new(&format!("/proc/{postmaster}")).exists());
}
