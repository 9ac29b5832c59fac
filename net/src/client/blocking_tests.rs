//! The blocking client against two nodes that are no more than their sockets.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use gramme_core::base::hash;
use gramme_core::base::limits::BUCKET_DEFAULT;
use gramme_core::port::Receipt;

use super::Client;
use crate::client::{Call, ClientOptions, Outcome, RequestOptions};
use crate::wire::{self, Answer, Message, Parse, Reply, Ring, RingNode};

const PARTITIONS: u32 = 16;

/// A key for which this node is asked first.
fn key_of(node: u64) -> Vec<u8> {
    (0..=255_u8)
        .map(|key| vec![key])
        .find(|key| (hash::token(BUCKET_DEFAULT, key).0 >> 60) % 2 == node)
        .expect("half of them")
}

/// Answers on one connection until it is to be silent; counts the puts.
fn serve(mut socket: TcpStream, ring: &Ring, is_silent: &AtomicBool, puts: &AtomicUsize) {
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(bytes @ 1..) = socket.read(&mut buffer) {
        received.extend_from_slice(&buffer[..bytes]);
        while let Parse::Done(frame) = wire::parse(&received) {
            let (id, mut out) = (frame.header.request_id, Vec::new());
            let reply = match &frame.message {
                Message::Hello(_) => {
                    wire::encode(&mut out, id, false, &Message::Ring(ring.clone()));
                    None
                }
                Message::Put(_) => {
                    puts.fetch_add(1, Ordering::SeqCst);
                    Some(Reply::Written {
                        context: None,
                        existed: false,
                        previous: None,
                    })
                }
                _ => Some(Reply::Absent),
            };
            if let Some(reply) = reply.filter(|_| !is_silent.load(Ordering::SeqCst)) {
                let answer = Message::Answer(Answer {
                    reply,
                    receipt: Receipt::default(),
                    server_ns: 1,
                    ring_epoch: 1,
                });
                wire::encode(&mut out, id, false, &answer);
            }
            let used = frame.header.frame_bytes as usize;
            received.drain(..used);
            if socket.write_all(&out).is_err() {
                return;
            }
        }
    }
}

#[test]
fn a_silent_node_does_not_make_the_others_seem_silent() {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let ports = [0, 1].map(|node: usize| listeners[node].local_addr().expect("bound").port());
    let ring = Ring {
        epoch: 1,
        routes: (0..PARTITIONS)
            .map(|partition| [vec![0, 1], vec![1, 0]][partition as usize % 2].clone())
            .collect(),
        partitions: PARTITIONS,
        answered_by: 0,
        nodes: (0..2)
            .map(|node: u16| RingNode {
                node: u64::from(node) + 1,
                host: String::new(),
                port: ports[usize::from(node)],
                shard_ports: vec![ports[usize::from(node)]],
            })
            .collect(),
    };
    let puts = Arc::new(AtomicUsize::new(0));
    let (served, serving) = mpsc::channel();
    let silent = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    for (node, listener) in listeners.into_iter().enumerate() {
        let (ring, puts, silent) = (ring.clone(), Arc::clone(&puts), Arc::clone(&silent[node]));
        let served = served.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (ring, puts, silent) = (ring.clone(), Arc::clone(&puts), Arc::clone(&silent));
                let served = served.clone();
                std::thread::spawn(move || {
                    serve(socket, &ring, &silent, &puts);
                    served.send(()).expect("counted");
                });
            }
        });
    }
    let options = ClientOptions {
        patience: Duration::from_millis(200),
        ..ClientOptions::default()
    };
    let address = format!("127.0.0.1:{}", ports[0]);
    let client = Client::connect_with(&[address], options).expect("connected");
    for node in [0, 1] {
        client.get(&key_of(node)).expect("read");
    }
    silent[1].store(true, Ordering::SeqCst);
    let rules = RequestOptions::default();
    let ended = client.pipeline([
        Call::get(&key_of(1), &rules),
        Call::put(&key_of(0), b"v", None, &rules),
    ]);
    assert!(matches!(
        ended[..],
        [Ok(Outcome::Read(_)), Ok(Outcome::Written(_))]
    ));
    drop(client);
    // One to see who is there, and one to each of them.
    for _ in 0..3 {
        serving.recv().expect("it has read everything");
    }
    assert_eq!(puts.load(Ordering::SeqCst), 1, "nobody else was asked");
}
