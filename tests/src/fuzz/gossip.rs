//! Gossip, and operators' commands, at a control shard; and what a node keeps of its cluster.

use gramme_core::base::ids::{NodeId, Token};
use gramme_core::cluster::{Boot, has_company};
use gramme_core::port::{Event, Message, Op, Quorum, Request, RequestId};
use gramme_core::ring::{
    Facts, Founding, Layout, Members, PartitionMap, Ring, RingDigest, RingPart, Shape, Stamp,
};

use super::host::{Host, ME, slices};
use super::option_of;

/// A control shard of a cluster of one that hears anything at all goes on.
pub(super) fn run(input: &[u8]) {
    let (option, input) = option_of(input);
    for bytes in [input.to_vec(), sealed(input)] {
        let mut host = control(&[]);
        match option % 3 {
            0 => host.message(NodeId(2), Message::Gossip { bytes: &bytes }),
            1 => host.step(Event::Request(command(&bytes))),
            _ => {
                // What a disk or a peer may bring.
                if let Ok(ring) = Ring::from_bytes(&bytes) {
                    let again =
                        Ring::from_bytes(&ring.to_bytes()).expect("what was written is read");
                    assert_eq!(again.fingerprint(), ring.fingerprint());
                    assert_eq!(ring.routes().epoch(), ring.epoch());
                }
                if let Ok(part) = RingPart::from_bytes(&bytes)
                    && let Some(ring) = part.into_ring()
                {
                    let _ = ring.routes();
                }
                let _ = (RingDigest::from_bytes(&bytes), Layout::from_bytes(&bytes));
                let _ = (Members::from_bytes(&bytes), has_company(&bytes));
            }
        }
        for _ in 0..3 {
            host.turn();
        }
    }
}

/// With the checksum at the end set right.
fn sealed(input: &[u8]) -> Vec<u8> {
    let body = &input[..input.len().saturating_sub(4)];
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    bytes
}

fn command(command: &[u8]) -> Request<'_> {
    Request {
        id: RequestId(1),
        deadline_ns: None,
        bucket: b"",
        key: b"",
        token: Token(0),
        durability: None,
        quorum: Quorum::default(),
        wants_object: false,
        is_forwarded: false,
        op: Op::Cluster { command },
    }
}

fn control(seeds: &[&str]) -> Host {
    let (mut host, _) = Host::opened(Default::default()).expect("an empty directory opens");
    host.take_control(Boot {
        me: ME,
        name: "n1".into(),
        zone: "z1".into(),
        listen: "127.0.0.1:7400".into(),
        resp: String::new(),
        admin: String::new(),
        slices: slices(),
        weight: 1,
        start_count: 1,
        state: None,
        seeds: seeds.iter().map(|seed| (*seed).to_owned()).collect(),
        buckets: Vec::new(),
        clock_drift_ms_max: 500,
        random_seed: 3,
    });
    host.turn();
    host.turn();
    host
}

/// What a joining node says, what it is answered, commands, and a ring as it is kept.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut joining = control(&["127.0.0.1:7500"]);
    let mut founder = control(&[]);
    for _ in 0..400 {
        joining.turn();
        let said = std::mem::take(&mut joining.gossip);
        for bytes in said {
            founder.message(NodeId(9), Message::Gossip { bytes: &bytes });
            seeds.push([&[0], bytes.as_slice()].concat());
        }
        founder.turn();
        for bytes in std::mem::take(&mut founder.gossip) {
            joining.message(NodeId(8), Message::Gossip { bytes: &bytes });
            seeds.push([&[0], bytes.as_slice()].concat());
        }
    }
    seeds.truncate(12);
    let commands = [
        r#"{"command":"status"}"#,
        r#"{"command":"ring"}"#,
        r#"{"command":"plan"}"#,
        r#"{"command":"commit","token":"1"}"#,
        r#"{"command":"join","node":"127.0.0.1:7500"}"#,
        r#"{"command":"leave","node":"n1"}"#,
        r#"{"command":"replace","node":"n1","by":"n2"}"#,
        r#"{"command":"buckets","name":"carts","n":3,"r":2,"w":2,"blind_put":"sibling","ttl_ms":5}"#,
        r#"{"command":"abort"}"#,
        r#"{"command":"repair"}"#,
    ];
    seeds.extend(commands.map(|command| [b"\x01", command.as_bytes()].concat()));
    let ring = Ring::found(Founding {
        cluster: 7,
        shape: Shape {
            partitions: PartitionMap::new(16).expect("a power of two"),
            n: 3,
        },
        node: ME,
        facts: Facts {
            listen: "127.0.0.1:7400".into(),
            zone: "z1".into(),
            weight: 1,
            shards: 1,
            ..Facts::default()
        },
        start_count: 1,
        stamp: Stamp::default(),
    });
    let ring = ring.expect("founded");
    for bytes in [
        ring.to_bytes(),
        ring.whole().to_bytes(),
        ring.digest().to_bytes(),
    ] {
        seeds.push([&[2], bytes.as_slice()].concat());
    }
    seeds
}
