//! The archived part of each kind of frame between nodes: plain integers, whose checks rkyv cannot get wrong. They grow at
//! their ends, as `version` says; `KeyBody`, which lies within others, never does.

use rkyv::{Archive, Serialize};

use super::super::tail::bodies;

bodies! {
    ArchivedApplyBody: 31,
    ArchivedAppliedBody: 14,
    ArchivedFetchBody: 23,
    ArchivedFetchedBody: 22,
    ArchivedRequestBody: 81,
    ArchivedOutcomeBody: 54,
    ArchivedCompareBody: 40,
    ArchivedPullBody: 16,
    ArchivedRecordsBody: 13,
    ArchivedReapBody: 13,
    ArchivedReapedBody: 8,
    ArchivedGossipBody: 1,
}

/// Whose key. Tail: bucket, key.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct KeyBody {
    pub(super) token: u64,
    pub(super) bucket_bytes: u16,
    pub(super) key_bytes: u32,
}

/// Tail: bucket, key, object.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct ApplyBody {
    pub(super) call: u64,
    pub(super) key: KeyBody,
    pub(super) hint_for: u64,
    pub(super) flags: u8,
}

pub(super) const APPLY_DURABLE: u8 = 0x01;
pub(super) const APPLY_HINT: u8 = 0x02;
pub(super) const APPLY_BACKGROUND: u8 = 0x04;

#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct AppliedBody {
    pub(super) call: u64,
    pub(super) queue: u32,
    /// 0: done.
    pub(super) refusal: u8,
    pub(super) is_durable: u8,
}

/// Tail: bucket, key.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct FetchBody {
    pub(super) call: u64,
    pub(super) key: KeyBody,
    pub(super) wants_object: u8,
}

/// Tail: object.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct FetchedBody {
    pub(super) call: u64,
    pub(super) queue: u32,
    /// 0: done.
    pub(super) refusal: u8,
    pub(super) has_object: u8,
    pub(super) fingerprint: u64,
}

/// Tail: bucket, key, context, value.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct RequestBody {
    pub(super) call: u64,
    pub(super) key: KeyBody,
    pub(super) context_bytes: u32,
    pub(super) deadline_ns: u64,
    pub(super) flags: u16,
    pub(super) n: u8,
    pub(super) r: u8,
    pub(super) w: u8,
    pub(super) zones: u8,
    /// 0 the bucket's, 1 buffered, 2 one, 3 all.
    pub(super) durability: u8,
    /// 1 get, 2 exists, 3 fetch, 4 put, 5 delete, 6 merge, 7 expiry, 8 scan, 9 cluster, 10 count.
    pub(super) op: u8,
    /// 0 blind, 1 latest, 2 opaque.
    pub(super) context: u8,
    /// 0 default, 1 never, 2 at, 3 keep.
    pub(super) expiry: u8,
    /// 0 always, 1 if absent, 2 if present.
    pub(super) condition: u8,
    pub(super) expires_at_ms: u64,
    pub(super) write_client: u64,
    pub(super) write_sequence: u64,
    pub(super) cursor: u64,
    pub(super) count: u32,
    /// 0: none.
    pub(super) name: u64,
}

pub(super) const REQUEST_DEADLINE: u16 = 0x0001;
pub(super) const REQUEST_WANTS_OBJECT: u16 = 0x0002;
pub(super) const REQUEST_FORWARDED: u16 = 0x0004;
pub(super) const REQUEST_STRICT: u16 = 0x0008;
pub(super) const REQUEST_OP_OBJECT: u16 = 0x0010;
pub(super) const REQUEST_WANT_PREVIOUS: u16 = 0x0020;
pub(super) const REQUEST_WANT_CONTEXT: u16 = 0x0040;
pub(super) const REQUEST_WRITE_ID: u16 = 0x0080;

/// Tail: the bytes that the ranges lie in.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct OutcomeBody {
    pub(super) call: u64,
    /// See `outcome`.
    pub(super) form: u8,
    pub(super) flags: u8,
    pub(super) replicas: u8,
    pub(super) zones: u8,
    pub(super) on_stable_media: u8,
    pub(super) stand_ins: u8,
    pub(super) disk_ns: u64,
    pub(super) number: u64,
    pub(super) second_number: u64,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) second_start: u32,
    pub(super) second_end: u32,
}

pub(super) const OUTCOME_RANGE: u8 = 0x01;
pub(super) const OUTCOME_SECOND_RANGE: u8 = 0x02;
pub(super) const OUTCOME_EXISTED: u8 = 0x04;
pub(super) const OUTCOME_IN_DOUBT: u8 = 0x08;

/// Both of a comparison. Tail, of the answer only: the list.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct CompareBody {
    pub(super) call: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) sum: u64,
    pub(super) count: u64,
}

/// Tail: the tokens.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct PullBody {
    pub(super) call: u64,
    pub(super) lane: u64,
}

/// Tail: the records.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct RecordsBody {
    pub(super) call: u64,
    pub(super) tokens_answered: u32,
    pub(super) is_incomplete: u8,
}

/// Tail: the pairs.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct ReapBody {
    pub(super) call: u64,
    pub(super) partition: u32,
    pub(super) is_final: u8,
}

/// Tail: the pairs.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct ReapedBody {
    pub(super) call: u64,
}

/// Tail: its bytes.
#[derive(Archive, Serialize, Clone, Copy, Default)]
#[rkyv(derive(Clone, Copy))]
pub(super) struct GossipBody {
    pub(super) reserved: u8,
}
