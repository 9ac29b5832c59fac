//! Both clients against a node of this process: sockets, reactor, session, shards and disk, whole.

#[path = "../examples/node/mod.rs"]
mod node;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use gramme::client::merge::Union;
use gramme::client::{Call, Client, ClientError, Outcome, RequestOptions, blocking};
use gramme_core::port::{Condition, Durability, Expiry};

struct Running {
    node: node::Node,
    _directory: tempfile::TempDir,
}

fn running(shards: u16) -> Running {
    let directory = tempfile::tempdir().expect("a directory");
    let node = node::start(&directory.path().join("data"), shards).expect("started");
    Running {
        node,
        _directory: directory,
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let failures = self.node.engine.failures();
        if !failures.is_empty() {
            eprintln!("shards failed: {failures:?}");
        }
    }
}

impl Running {
    fn client(&self) -> blocking::Client {
        blocking::Client::connect(&self.node.address.to_string()).expect("connected")
    }
}

#[test]
fn a_value_is_read_as_it_was_written_and_gone_after_its_deletion() {
    let running = running(2);
    let client = running.client();
    for i in 0..200_u32 {
        let key = i.to_be_bytes();
        assert!(client.get(&key).expect("read").values.is_empty());
        let written = client.put(&key, b"value", None).expect("written");
        assert_eq!(written.receipt.replicas, 1);
        let read = client.get(&key).expect("read");
        assert_eq!(read.latest(), Some(b"value".as_slice()));
        client.delete(&key, read.context.as_ref()).expect("deleted");
        assert!(client.get(&key).expect("read").values.is_empty());
    }
}

#[test]
fn writes_that_did_not_see_each_other_are_both_kept_until_one_saw_both() {
    let running = running(1);
    let client = running.client();
    let first = client.put(b"k", b"0", None).expect("written");
    let context = first.context.as_ref();
    client.put(b"k", b"a", context).expect("written");
    client.put(b"k", b"b", context).expect("written");
    let both = client.get(b"k").expect("read");
    assert_eq!(both.values, [b"b".to_vec(), b"a".to_vec()], "latest first");
    client
        .put(b"k", b"c", both.context.as_ref())
        .expect("written");
    assert_eq!(client.get(b"k").expect("read").values, [b"c".to_vec()]);
}

#[test]
fn updates_from_many_threads_lose_nothing() {
    let running = running(2);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let client = running.client();
            scope.spawn(move || {
                for i in 0..25 {
                    let add = |set: Option<Vec<u8>>| {
                        let mut set = set.unwrap_or_default();
                        set.extend_from_slice(format!("\n{thread}.{i}").as_bytes());
                        set
                    };
                    client.update(b"set", &Union, add).expect("updated");
                }
            });
        }
    });
    let merged = running.client().get(b"set").expect("read").merged(&Union);
    let merged = String::from_utf8(merged.expect("there")).expect("text");
    let items: std::collections::BTreeSet<&str> =
        merged.split('\n').filter(|item| !item.is_empty()).collect();
    assert_eq!(items.len(), 100);
}

#[test]
fn options_reach_the_shard() {
    let running = running(1);
    let client = running.client();
    let durable = client.with(RequestOptions::default().durability(Durability::One));
    let written = durable.put(b"k", b"v", None).expect("written");
    assert_eq!(written.receipt.on_stable_media, 1);

    let absent = client.with(RequestOptions::default().condition(Condition::IfAbsent));
    assert!(!absent.put(b"k", b"w", None).expect("answered").is_applied);

    let past = client.with(RequestOptions::default().expiry(Expiry::AtMs(1)));
    past.put(b"gone", b"v", None).expect("written");
    assert!(client.get(b"gone").expect("read").values.is_empty());

    let nowhere = client.with(RequestOptions::default().bucket("nowhere"));
    let error = nowhere.put(b"k", b"v", None).expect_err("no such bucket");
    assert!(
        !error.is_in_doubt() && error.to_string().contains("bucket"),
        "{error}"
    );
}

#[test]
fn values_of_many_sizes_come_back_whole() {
    let running = running(2);
    let client = running.client();
    for bytes in [0, 1, 1_000, 4_096, 70_000, 1 << 20] {
        let value: Vec<u8> = (0..bytes).map(|i: u32| i.to_le_bytes()[1]).collect();
        client.put(b"k", &value, None).expect("written");
        let read = client.get(b"k").expect("read");
        assert!(read.latest() == Some(value.as_slice()), "{bytes} bytes");
    }
    let too_large = vec![0; (1 << 20) + 1];
    let error = client.put(b"k", &too_large, None).expect_err("too large");
    assert!(
        !error.is_in_doubt() && error.to_string().contains("1048576"),
        "{error}"
    );
}

#[test]
fn a_pipeline_answers_in_the_order_of_its_calls() {
    let running = running(2);
    let client = running.client();
    let options = RequestOptions::default();
    let puts =
        (0..3_000_u32).map(|i| Call::put(&i.to_be_bytes(), &i.to_be_bytes(), None, &options));
    for result in client.pipeline(puts) {
        result.expect("written");
    }
    let gets = (0..3_000_u32).map(|i| Call::get(&i.to_be_bytes(), &options));
    for (i, result) in (0_u32..).zip(client.pipeline(gets)) {
        let Ok(Outcome::Read(read)) = result else {
            panic!("{i}: {result:?}");
        };
        assert_eq!(read.latest(), Some(i.to_be_bytes().as_slice()));
    }
}

#[tokio::test]
async fn the_asynchronous_client_has_many_requests_in_flight() {
    let running = running(2);
    let client = Client::connect(&running.node.address.to_string())
        .await
        .expect("connected");
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..500_u32 {
        let client = client.clone();
        tasks.spawn(async move {
            let key = i.to_be_bytes();
            client.put(&key, b"v", None).await.expect("written");
            client.get(&key).await.expect("read").values.len()
        });
    }
    let found: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(found, 500);
    let update = client.update(b"set", &Union, |_| b"item".to_vec()).await;
    assert!(update.expect("updated").is_applied);
}

#[tokio::test]
async fn a_node_that_stops_is_an_error_and_no_hang() {
    let running = running(1);
    let client = Client::connect(&running.node.address.to_string())
        .await
        .expect("connected")
        .with(RequestOptions::default().deadline(Duration::from_millis(500)));
    client.put(b"k", b"v", None).await.expect("written");
    running.node.engine.stop().expect("stopped");
    let error = client.get(b"k").await.expect_err("nobody is there");
    assert!(
        matches!(
            error,
            ClientError::Disconnected { .. }
                | ClientError::Deadline { .. }
                | ClientError::Server { .. }
        ),
        "{error}"
    );
}

#[test]
fn nobody_there_is_said_at_once() {
    let error = blocking::Client::connect("127.0.0.1:1").expect_err("nobody");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let running = running(1);
    let client = running.client();
    client.put(b"k", b"v", None).expect("written");
    let mut socket = TcpStream::connect(running.node.address).expect("connected");
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: gramme\r\n\r\n")
        .expect("sent");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("set");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("closed by the node");
    assert!(
        matches!(gramme::wire::parse(&answer), gramme::wire::Parse::Done(_)),
        "an error frame"
    );
    assert_eq!(client.get(b"k").expect("read").values.len(), 1);
}
