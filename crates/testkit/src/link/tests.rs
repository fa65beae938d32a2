//! The link, before an echo and before a real database.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::{Client, NoTls};

use super::Link;
use crate::postgres::Cluster;

/// A server that answers what it is sent, and whose connections are handed to the test.
async fn pair() -> (Link, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (Link::to(listener.local_addr().unwrap()).await, listener)
}

async fn connect(link: &Link, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(link.address()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut piece = vec![0; bytes];
    stream.read_exact(&mut piece).await.unwrap();
    piece
}

async fn ends(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    stream.read(&mut [0; 8]).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn bytes_and_ends_pass_both_ways() {
    let (link, listener) = pair().await;
    let (mut client, mut server) = connect(&link, &listener).await;
    let long: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (sent, received) = tokio::join!(client.write_all(&long), read(&mut server, long.len()));
    sent.unwrap();
    assert_eq!(received, long);
    client.shutdown().await.unwrap();
    assert_eq!(ends(&mut server).await, Ok(0), "one side has ended");
    server.write_all(b"bye").await.unwrap();
    drop(server);
    assert_eq!(read(&mut client, 3).await, b"bye");
    assert_eq!(ends(&mut client).await, Ok(0));
}

#[tokio::test]
async fn a_cut_resets_both_sides_and_whoever_comes_until_it_heals() {
    let (link, listener) = pair().await;
    let (mut client, mut server) = connect(&link, &listener).await;
    client.write_all(b"hello").await.unwrap();
    assert_eq!(read(&mut server, 5).await, b"hello");
    link.cut();
    assert_eq!(ends(&mut client).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(ends(&mut server).await, Err(ErrorKind::ConnectionReset));
    let mut late = TcpStream::connect(link.address()).await.unwrap();
    assert_eq!(ends(&mut late).await, Err(ErrorKind::ConnectionReset));
    link.heal();
    let (mut client, mut server) = connect(&link, &listener).await;
    client.write_all(b"again").await.unwrap();
    assert_eq!(read(&mut server, 5).await, b"again");
    // Even where nobody had time to look between the two.
    link.cut();
    link.heal();
    assert_eq!(ends(&mut client).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(ends(&mut server).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_stall_keeps_everything_back_and_loses_nothing() {
    let (link, listener) = pair().await;
    let (mut client, mut server) = connect(&link, &listener).await;
    link.stall();
    client.write_all(b"ask").await.unwrap();
    link.withholds().await;
    let nothing = server.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    link.stall_replies();
    assert_eq!(read(&mut server, 3).await, b"ask");
    server.write_all(b"answer").await.unwrap();
    link.withholds().await;
    assert_eq!(client.try_read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    link.heal();
    assert_eq!(read(&mut client, 6).await, b"answer");
    // What is kept back goes with the connection.
    link.stall_replies();
    server.write_all(b"lost").await.unwrap();
    link.withholds().await;
    link.cut();
    assert_eq!(ends(&mut client).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_server_that_is_gone_resets_the_client() {
    let (link, listener) = pair().await;
    drop(listener);
    let mut client = TcpStream::connect(link.address()).await.unwrap();
    assert_eq!(ends(&mut client).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_link_that_is_dropped_ends_its_connections() {
    let (link, listener) = pair().await;
    let (mut client, mut server) = connect(&link, &listener).await;
    let address = link.address();
    drop(link);
    assert_eq!((ends(&mut client).await, ends(&mut server).await), (Ok(0), Ok(0)));
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[expect(clippy::disallowed_methods, reason = "the connection runs beside the test")]
async fn database(link: &Link) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&Cluster::url_at(link.address(), "linked"), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_was_made_all_the_same() {
    let cluster = Cluster::shared();
    cluster.create_database("linked").await;
    let link = Link::to(cluster.address()).await;
    let client = database(&link).await.unwrap();
    client.batch_execute("CREATE TABLE things (id int)").await.unwrap();
    link.stall_replies();
    let insert = client.execute("INSERT INTO things VALUES (1)", &[]);
    let (inserted, ()) = tokio::join!(insert, async {
        link.withholds().await;
        link.cut();
    });
    assert!(inserted.unwrap_err().is_closed(), "the client does not know");
    assert!(database(&link).await.is_err());
    link.heal();
    let client = database(&link).await.unwrap();
    // The statement was prepared on the first round trip, whose answer the link kept.
    let things: i64 = client.query_one("SELECT count(*) FROM things", &[]).await.unwrap().get(0);
    assert_eq!(things, 0);
    link.stall_replies();
    let insert = client.batch_execute("INSERT INTO things VALUES (1)");
    let (inserted, ()) = tokio::join!(insert, async {
        link.withholds().await;
        link.cut();
    });
    assert!(inserted.unwrap_err().is_closed());
    link.heal();
    let client = database(&link).await.unwrap();
    let things: i64 = client.query_one("SELECT count(*) FROM things", &[]).await.unwrap().get(0);
    assert_eq!(things, 1, "one round trip carried all of it");
}
