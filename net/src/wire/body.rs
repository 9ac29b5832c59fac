//! The archived part of each kind of frame.
//!
//! Owns the rkyv derives of the whole workspace. Flat: plain integers only, but for the ring, which is read once a
//! connection. No niches, no reference counts, no trait objects, since rkyv's checks of those are doubtful; the lengths
//! of the tail's parts are among the integers.
//!
//! Read by `decode` through the checked access, after the checksum. How a body may grow is said in `version`: at its end,
//! and only those that `bodies!` names.

use rkyv::{Archive, Serialize};

use super::tail::bodies;

bodies! {
    ArchivedHelloBody: 9,
    ArchivedReadBody: 17,
    ArchivedWriteBody: 50,
    ArchivedAnswerBody: 42,
    ArchivedErrorBody: 11,
    ArchivedPeerHelloBody: 28,
}

#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct HelloBody {
    /// Greatest protocol version that the client speaks.
    pub(super) version_max: u8,
    /// Random, names the client in write ids.
    pub(super) client: u64,
    /// Least protocol version that the client speaks.
    pub(super) version_min: u8,
}

/// The place of a node in a route that has fewer.
pub(super) const NO_NODE: u16 = u16::MAX;

#[derive(Archive, Serialize, Clone, Default)]
pub(super) struct RingBody {
    pub(super) epoch: u64,
    pub(super) partitions: u32,
    /// The node that answers, as an index of `nodes`.
    pub(super) answered_by: u32,
    pub(super) nodes: Vec<RingNodeBody>,
    /// For each partition so many indexes of `nodes`, filled up with [`NO_NODE`].
    pub(super) replicas: u32,
    pub(super) routes: Vec<u16>,
}

#[derive(Archive, Serialize, Clone, Default)]
pub(super) struct RingNodeBody {
    pub(super) node: u64,
    /// UTF-8; empty: the host that the client already talks to.
    pub(super) host: Vec<u8>,
    /// Any shard.
    pub(super) port: u16,
    /// One a shard.
    pub(super) shard_ports: Vec<u16>,
}

/// What get, put and delete begin with; it lies within their bodies, and never grows. Tail: bucket, key.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct GetBody {
    /// 0: none.
    pub(super) deadline_us: u64,
    pub(super) n: u8,
    pub(super) r: u8,
    pub(super) w: u8,
    pub(super) bucket_bytes: u16,
    pub(super) key_bytes: u32,
}

/// Get. Tail: bucket, key.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct ReadBody {
    pub(super) target: GetBody,
    /// Who does not know it says in its receipt how many it was: that is looked at.
    pub(super) zones: u8,
}

/// Put and delete. Tail: bucket, key, context, value.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct WriteBody {
    pub(super) target: GetBody,
    pub(super) flags: u8,
    /// 0 the bucket's, 1 buffered, 2 one, 3 all.
    pub(super) durability: u8,
    /// 0 blind, 1 latest, 2 opaque.
    pub(super) context: u8,
    /// 0 default, 1 never, 2 at, 3 keep.
    pub(super) expiry: u8,
    /// 0 always, 1 if absent, 2 if present.
    pub(super) condition: u8,
    pub(super) context_bytes: u32,
    pub(super) expires_at_ms: u64,
    pub(super) write_client: u64,
    pub(super) write_sequence: u64,
    pub(super) zones: u8,
}

pub(super) const WRITE_WANT_CONTEXT: u8 = 0x01;
pub(super) const WRITE_WANT_PREVIOUS: u8 = 0x02;
pub(super) const WRITE_ID: u8 = 0x04;
/// One of those that must be understood: whoever read over it would count stand-ins.
pub(super) const WRITE_STRICT: u8 = 0x40;
/// The same of the number of zones.
pub(super) const WRITE_ZONES: u8 = 0x80;

/// Tail: context, object.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct AnswerBody {
    /// 1 object, 2 absent, 3 written, 4 condition not met.
    pub(super) form: u8,
    pub(super) flags: u8,
    pub(super) replicas: u8,
    pub(super) zones: u8,
    pub(super) on_stable_media: u8,
    pub(super) stand_ins: u8,
    pub(super) disk_ns: u64,
    pub(super) server_ns: u64,
    pub(super) ring_epoch: u64,
    pub(super) key_hash: u64,
    pub(super) context_bytes: u32,
}

pub(super) const ANSWER_EXISTED: u8 = 0x01;
pub(super) const ANSWER_CONTEXT: u8 = 0x02;
pub(super) const ANSWER_PREVIOUS: u8 = 0x04;

/// Tail: message (UTF-8), object.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct ErrorBody {
    pub(super) code: u16,
    /// 0 not applied, 1 in doubt.
    pub(super) effect: u8,
    pub(super) retry_after_ms: u32,
    pub(super) message_bytes: u32,
}

/// The first frame of a node, and the answer.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct PeerHelloBody {
    pub(super) version_max: u8,
    /// 0: none yet.
    pub(super) cluster: u64,
    pub(super) from: u64,
    pub(super) from_shard: u16,
    /// 0: whoever is at this address.
    pub(super) to: u64,
    /// 0 data, 1 control.
    pub(super) lane: u8,
    pub(super) version_min: u8,
}
