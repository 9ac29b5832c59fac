//! A node of the test's own, which says by the bytes what no real one would.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use gramme::wire::peer::{PeerFrame, encode_peer};
use gramme::wire::{self, Parse, PeerHello, PeerLane, Versions};
use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::port::{Lane, Message};

use crate::side::Side;
use crate::{CLUSTER, WAIT};

/// A node of the test's own, by the bytes.
pub(super) struct Raw(pub(super) TcpStream);

impl Raw {
    pub(super) fn connect(side: &Side, hello: PeerHello) -> Self {
        let address = SocketAddr::new(side.address.ip(), side.address.port() + 1);
        let mut raw = Self(TcpStream::connect(address).expect("connected"));
        raw.0.set_read_timeout(Some(WAIT)).expect("set");
        raw.hello(hello);
        raw
    }

    pub(super) fn hello(&mut self, hello: PeerHello) {
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, 0, true, &wire::Message::Peer(hello));
        self.0.write_all(&bytes).expect("written");
    }

    /// The next native frame, as text.
    pub(super) fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        loop {
            let mut byte = [0];
            if self.0.read(&mut byte).expect("read") == 0 {
                return "the end".into();
            }
            bytes.push(byte[0]);
            match wire::parse(&bytes) {
                Parse::Done(frame) => return format!("{:?}", frame.message),
                Parse::NeedMore(_) => {}
                Parse::Unknown(frame) => panic!("{}", frame.why),
                Parse::Bad(error) => panic!("{error}"),
            }
        }
    }

    pub(super) fn write(&mut self, sent_ms: u64, message: Message<&[u8]>) {
        let mut bytes = Vec::new();
        let frame = PeerFrame {
            lane: Lane::Shard(ShardIndex(0)),
            sent_ms,
            message,
        };
        assert!(encode_peer(&mut bytes, true, &frame));
        self.0.write_all(&bytes).expect("written");
    }

    pub(super) fn has_ended(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(self.0.read_to_end(&mut rest), Ok(_) | Err(_))
    }
}

pub(super) fn hello(to: &Side) -> PeerHello {
    PeerHello {
        versions: Versions::OWN,
        cluster: CLUSTER,
        from: NodeId(99),
        from_shard: ShardIndex(4),
        to: to.engine.node(),
        lane: PeerLane::Data,
    }
}
