//! A message between nodes, read from a receive buffer in place.
//!
//! Owns the order of the checks: header, length, checksum, kind, flags, archive, tail. Total: any bytes give a message, a
//! wish for more bytes, something to pass over, or an error.

use gramme_core::base::hash;
use gramme_core::base::ids::{NodeId, PartitionId, ShardIndex, Token};
use gramme_core::port::{
    CallId, ContextArg, Held, KeyName, Lane, Message, Op, Put, Quorum, Refusal, Request, RequestId,
    TokenRange,
};
use gramme_core::version::WriteId;

use super::super::FrameError;
use super::super::header::{Fields, HEADER_BYTES};
use super::super::tail::{self, BodyKind, body};
use super::super::version::{MUST_UNDERSTAND, MUST_UNDERSTAND_16};
use super::super::words::{condition_of, durability_of, expiry_of};
use super::body::{
    APPLY_BACKGROUND, APPLY_DURABLE, APPLY_HINT, ArchivedAppliedBody, ArchivedApplyBody,
    ArchivedCompareBody, ArchivedFetchBody, ArchivedFetchedBody, ArchivedGossipBody,
    ArchivedKeyBody, ArchivedOutcomeBody, ArchivedPullBody, ArchivedReapBody, ArchivedReapedBody,
    ArchivedRecordsBody, ArchivedRequestBody, REQUEST_DEADLINE, REQUEST_FORWARDED,
    REQUEST_OP_OBJECT, REQUEST_STRICT, REQUEST_WANT_CONTEXT, REQUEST_WANT_PREVIOUS,
    REQUEST_WANTS_OBJECT, REQUEST_WRITE_ID,
};
use super::{
    FLAG_LANE_CONTROL, FLAG_LANE_TOKEN, PEER_FRAME_BYTES_MAX, PeerFrame, PeerKind, START_BYTES,
};

/// What the beginning of a buffer holds.
#[expect(
    clippy::large_enum_variant,
    reason = "it is looked at where it is made; a box would cost an allocation a message"
)]
#[derive(Clone, Copy, Debug)]
pub enum PeerParse<'a> {
    /// A frame.
    Done {
        /// It.
        frame: PeerFrame<'a>,
        /// The next begins after so many bytes.
        frame_bytes: usize,
    },
    /// A frame of a newer release that must not be read over: of an unknown kind, say.
    Unknown {
        /// The next begins after so many bytes.
        frame_bytes: usize,
        /// What is not known.
        why: FrameError,
    },
    /// Not yet a frame: at least so many bytes must be there.
    NeedMore(usize),
    /// Not a frame; this connection ends.
    Bad(FrameError),
}

/// Reads the frame at the beginning of `bytes`.
pub fn parse_peer(bytes: &[u8]) -> PeerParse<'_> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return PeerParse::NeedMore(HEADER_BYTES);
    };
    let fields = match Fields::from_bytes(header, PEER_FRAME_BYTES_MAX) {
        Ok(fields) => fields,
        Err(error) => return PeerParse::Bad(error),
    };
    let frame_bytes = fields.frame_bytes as usize;
    let Some(frame) = bytes.get(..frame_bytes) else {
        return PeerParse::NeedMore(frame_bytes);
    };
    if let Err(error) = fields.check_sum(frame) {
        return PeerParse::Bad(error);
    }
    let Some(kind) = PeerKind::from_byte(fields.kind) else {
        let why = FrameError::Kind { found: fields.kind };
        return PeerParse::Unknown { frame_bytes, why };
    };
    let read = match fields.unknown_flag() {
        Some(why) => Err(why),
        None => read(kind, &fields, frame),
    };
    match read {
        Ok(frame) => PeerParse::Done { frame, frame_bytes },
        Err(why) if why.is_newer() => PeerParse::Unknown { frame_bytes, why },
        Err(error) => PeerParse::Bad(error),
    }
}

fn read<'a>(kind: PeerKind, fields: &Fields, frame: &'a [u8]) -> Result<PeerFrame<'a>, FrameError> {
    let bad = |what| kind.bad(what);
    let lane = match fields.flags & (FLAG_LANE_TOKEN | FLAG_LANE_CONTROL) {
        FLAG_LANE_TOKEN => Lane::Token(Token(fields.id)),
        FLAG_LANE_CONTROL if fields.id == 0 => Lane::Control,
        0 => {
            let shard = u16::try_from(fields.id).map_err(|_| bad("is for no possible shard"))?;
            Lane::Shard(ShardIndex(shard))
        }
        _ => return Err(bad("is for two lanes")),
    };
    let (start, rest) = frame
        .split_at_checked(START_BYTES)
        .ok_or(bad("is cut off"))?;
    let (body, tail) = rest
        .split_at_checked(fields.body_bytes as usize)
        .ok_or(bad("is longer than its frame"))?;
    let mut sent_ms = [0; 8];
    sent_ms.copy_from_slice(&start[HEADER_BYTES..]);
    let mut tail = Tail::new(kind, tail);
    Ok(PeerFrame {
        lane,
        sent_ms: u64::from_le_bytes(sent_ms),
        message: message(kind, body, &mut tail)?,
    })
}

fn message<'a>(
    kind: PeerKind,
    bytes: &[u8],
    tail: &mut Tail<'a>,
) -> Result<Message<&'a [u8]>, FrameError> {
    Ok(match kind {
        PeerKind::Apply => {
            let body: ArchivedApplyBody = body(kind, bytes)?;
            if body.flags & MUST_UNDERSTAND != 0 {
                return Err(tail.newer("has an unknown flag"));
            }
            let hint_for = NodeId(body.hint_for.to_native());
            Message::Apply {
                call: CallId(body.call.to_native()),
                key: tail.key_name(&body.key)?,
                object: tail.rest(),
                is_durable: body.flags & APPLY_DURABLE != 0,
                hint_for: (body.flags & APPLY_HINT != 0).then_some(hint_for),
                is_background: body.flags & APPLY_BACKGROUND != 0,
            }
        }
        PeerKind::Applied => {
            let body: ArchivedAppliedBody = body(kind, bytes)?;
            let is_durable = tail.bit(body.is_durable)?;
            Message::Applied {
                call: CallId(body.call.to_native()),
                result: tail.refusal(body.refusal)?.map_or(Ok(is_durable), Err),
                queue: body.queue.to_native(),
            }
        }
        PeerKind::Fetch => {
            let body: ArchivedFetchBody = body(kind, bytes)?;
            Message::Fetch {
                call: CallId(body.call.to_native()),
                key: tail.key_name(&body.key)?,
                wants_object: tail.bit(body.wants_object)?,
            }
        }
        PeerKind::Fetched => {
            let body: ArchivedFetchedBody = body(kind, bytes)?;
            let object = tail.bit(body.has_object)?.then(|| tail.rest());
            let held = Held {
                fingerprint: body.fingerprint.to_native(),
                object,
            };
            Message::Fetched {
                call: CallId(body.call.to_native()),
                result: tail.refusal(body.refusal)?.map_or(Ok(held), Err),
                queue: body.queue.to_native(),
            }
        }
        PeerKind::Request => request(&body(kind, bytes)?, tail)?,
        PeerKind::Outcome => {
            let body: ArchivedOutcomeBody = body(kind, bytes)?;
            let bytes = tail.rest();
            Message::Outcome {
                call: CallId(body.call.to_native()),
                outcome: body.outcome(bytes.len())?,
                bytes,
            }
        }
        PeerKind::Compare => {
            let body: ArchivedCompareBody = body(kind, bytes)?;
            Message::Compare {
                call: CallId(body.call.to_native()),
                range: tail.range(&body)?,
                sum: body.sum.to_native(),
                count: body.count.to_native(),
            }
        }
        PeerKind::Compared => {
            let body: ArchivedCompareBody = body(kind, bytes)?;
            Message::Compared {
                call: CallId(body.call.to_native()),
                range: tail.range(&body)?,
                sum: body.sum.to_native(),
                count: body.count.to_native(),
                list: tail.list(16)?,
            }
        }
        PeerKind::Pull => {
            let body: ArchivedPullBody = body(kind, bytes)?;
            Message::Pull {
                call: CallId(body.call.to_native()),
                lane: Token(body.lane.to_native()),
                tokens: tail.list(8)?,
            }
        }
        PeerKind::Records => {
            let body: ArchivedRecordsBody = body(kind, bytes)?;
            Message::Records {
                call: CallId(body.call.to_native()),
                tokens_answered: body.tokens_answered.to_native(),
                records: tail.rest(),
                is_incomplete: tail.bit(body.is_incomplete)?,
            }
        }
        PeerKind::Reap => {
            let body: ArchivedReapBody = body(kind, bytes)?;
            Message::Reap {
                call: CallId(body.call.to_native()),
                partition: PartitionId(body.partition.to_native()),
                is_final: tail.bit(body.is_final)?,
                list: tail.list(16)?,
            }
        }
        PeerKind::Reaped => {
            let body: ArchivedReapedBody = body(kind, bytes)?;
            Message::Reaped {
                call: CallId(body.call.to_native()),
                list: tail.list(16)?,
            }
        }
        PeerKind::Gossip => {
            let _: ArchivedGossipBody = body(kind, bytes)?;
            Message::Gossip { bytes: tail.rest() }
        }
    })
}

impl BodyKind for PeerKind {
    fn bad(self, what: &'static str) -> FrameError {
        FrameError::PeerBody { kind: self, what }
    }

    fn newer(self, what: &'static str) -> FrameError {
        FrameError::NewerPeerBody { kind: self, what }
    }
}

type Tail<'a> = tail::Tail<'a, PeerKind>;

/// The parts that only frames between nodes have.
impl<'a> Tail<'a> {
    /// The rest, which is a list of items of this length.
    fn list(&mut self, item_bytes: usize) -> Result<&'a [u8], FrameError> {
        if self.len().is_multiple_of(item_bytes) {
            Ok(self.rest())
        } else {
            Err(self.bad("has half an item"))
        }
    }

    fn bit(&self, byte: u8) -> Result<bool, FrameError> {
        match byte {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad("has a bit that is neither 0 nor 1")),
        }
    }

    /// The key, by its names only.
    fn names(&mut self, body: &ArchivedKeyBody) -> Result<KeyName<&'a [u8]>, FrameError> {
        Ok(KeyName {
            bucket: self.take(u32::from(body.bucket_bytes.to_native()))?,
            key: self.take(body.key_bytes.to_native())?,
            token: Token(body.token.to_native()),
        })
    }

    /// The key, whose token must be its own: an index that took another would lose the key.
    fn key_name(&mut self, body: &ArchivedKeyBody) -> Result<KeyName<&'a [u8]>, FrameError> {
        let key = self.names(body)?;
        if hash::token(key.bucket, key.key) == key.token {
            Ok(key)
        } else {
            Err(self.bad("has another token than its key's"))
        }
    }

    fn range(&self, body: &ArchivedCompareBody) -> Result<TokenRange, FrameError> {
        let (first, last) = (body.first.to_native(), body.last.to_native());
        if first > last {
            return Err(self.bad("has a range that ends before it begins"));
        }
        Ok(TokenRange {
            first: Token(first),
            last: Token(last),
        })
    }

    fn refusal(&self, byte: u8) -> Result<Option<Refusal>, FrameError> {
        Ok(Some(match byte {
            0 => return Ok(None),
            1 => Refusal::NotHere,
            2 => Refusal::Overloaded,
            3 => Refusal::DiskFull,
            4 => Refusal::ReadOnly,
            5 => Refusal::Unreadable,
            6 => Refusal::BadObject,
            7 => Refusal::Stopping,
            _ => return Err(self.newer("has an unknown refusal")),
        }))
    }
}

fn request<'a>(
    body: &ArchivedRequestBody,
    tail: &mut Tail<'a>,
) -> Result<Message<&'a [u8]>, FrameError> {
    let flags = body.flags.to_native();
    if flags & MUST_UNDERSTAND_16 != 0 {
        return Err(tail.newer("has an unknown flag"));
    }
    let op = op(body, flags, tail)?;
    let is_of_a_key = !matches!(op, Op::Scan { .. } | Op::Count | Op::Cluster { .. });
    let key = if is_of_a_key {
        tail.key_name(&body.key)?
    } else {
        tail.names(&body.key)?
    };
    let context = tail.take(body.context_bytes.to_native())?;
    let shape = Request {
        id: RequestId(0),
        deadline_ns: (flags & REQUEST_DEADLINE != 0).then(|| body.deadline_ns.to_native()),
        bucket: &[],
        key: &[],
        token: key.token,
        durability: durability_of(body.durability).map_err(|what| tail.newer(what))?,
        quorum: Quorum {
            n: body.n,
            r: body.r,
            w: body.w,
            zones: body.zones,
            is_strict: flags & REQUEST_STRICT != 0,
        },
        wants_object: flags & REQUEST_WANTS_OBJECT != 0,
        is_forwarded: flags & REQUEST_FORWARDED != 0,
        op,
    };
    Ok(Message::Request {
        call: CallId(body.call.to_native()),
        name: body.name.to_native(),
        shape,
        key,
        value: tail.rest(),
        context,
    })
}

/// The operation without its bytes.
fn op(body: &ArchivedRequestBody, flags: u16, tail: &Tail<'_>) -> Result<Op<'static>, FrameError> {
    let want_previous = flags & REQUEST_WANT_PREVIOUS != 0;
    let want_context = flags & REQUEST_WANT_CONTEXT != 0;
    let write_id = (flags & REQUEST_WRITE_ID != 0).then(|| WriteId {
        client: body.write_client.to_native(),
        sequence: body.write_sequence.to_native(),
    });
    let context = match body.context {
        0 => ContextArg::Blind,
        1 => ContextArg::Latest,
        2 => ContextArg::Opaque(&[]),
        _ => return Err(tail.newer("has an unknown form of context")),
    };
    let expiry =
        expiry_of(body.expiry, body.expires_at_ms.to_native()).map_err(|what| tail.newer(what))?;
    Ok(match body.op {
        1 => Op::Get,
        2 => Op::Exists,
        3 => Op::Fetch {
            wants_object: flags & REQUEST_OP_OBJECT != 0,
        },
        4 => Op::Put(Put {
            context,
            value: &[],
            expiry,
            condition: condition_of(body.condition).map_err(|what| tail.newer(what))?,
            want_previous,
            want_context,
            write_id,
        }),
        5 => Op::Delete {
            context,
            want_previous,
            want_context,
            write_id,
        },
        6 => Op::Merge { object: &[] },
        7 => Op::SetExpiry {
            expiry,
            want_previous,
        },
        8 => Op::Scan {
            cursor: body.cursor.to_native(),
            count: body.count.to_native(),
        },
        9 => Op::Cluster { command: &[] },
        10 => Op::Count,
        _ => return Err(tail.newer("has an unknown operation")),
    })
}
