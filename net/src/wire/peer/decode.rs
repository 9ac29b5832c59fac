//! A message between nodes, read from a receive buffer in place.
//!
//! Owns the order of the checks: header, length, checksum, kind, archive, tail. Total: any bytes give a message, a wish
//! for more bytes, something to pass over, or an error.

use gramme_core::base::hash;
use gramme_core::base::ids::{NodeId, PartitionId, ShardIndex, Token};
use gramme_core::port::{
    CallId, ContextArg, Held, KeyName, Lane, Message, Op, Put, Quorum, Refusal, Request, RequestId,
    TokenRange,
};
use gramme_core::version::WriteId;
use rkyv::Portable;
use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;

use super::super::FrameError;
use super::super::header::{FLAG_CHECKSUM, Fields, HEADER_BYTES};
use super::super::tail::{self, BodyKind};
use super::super::words::{condition_of, durability_of, expiry_of};
use super::body::{
    APPLY_BACKGROUND, APPLY_DURABLE, APPLY_HINT, ArchivedAppliedBody, ArchivedApplyBody,
    ArchivedCompareBody, ArchivedFetchBody, ArchivedFetchedBody, ArchivedGossipBody,
    ArchivedKeyBody, ArchivedOutcomeBody, ArchivedPullBody, ArchivedReapBody, ArchivedReapedBody,
    ArchivedRecordsBody, ArchivedRequestBody, REQUEST_DEADLINE, REQUEST_FLAGS, REQUEST_FORWARDED,
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
    /// A frame of a kind that this version does not know.
    Unknown {
        /// The next begins after so many bytes.
        frame_bytes: usize,
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
        return PeerParse::Unknown { frame_bytes };
    };
    match read(kind, &fields, frame) {
        Ok(frame) => PeerParse::Done { frame, frame_bytes },
        Err(error) => PeerParse::Bad(error),
    }
}

fn read<'a>(kind: PeerKind, fields: &Fields, frame: &'a [u8]) -> Result<PeerFrame<'a>, FrameError> {
    let bad = |what| kind.bad(what);
    let lane = match fields.flags & !FLAG_CHECKSUM {
        FLAG_LANE_TOKEN => Lane::Token(Token(fields.id)),
        FLAG_LANE_CONTROL if fields.id == 0 => Lane::Control,
        0 => {
            let shard = u16::try_from(fields.id).map_err(|_| bad("is for no possible shard"))?;
            Lane::Shard(ShardIndex(shard))
        }
        found => return Err(FrameError::Flags { found }),
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
    let message = message(kind, body, &mut tail)?;
    if tail.len() > 0 {
        return Err(tail.bad("has bytes after its end"));
    }
    Ok(PeerFrame {
        lane,
        sent_ms: u64::from_le_bytes(sent_ms),
        message,
    })
}

fn message<'a>(
    kind: PeerKind,
    body: &[u8],
    tail: &mut Tail<'a>,
) -> Result<Message<&'a [u8]>, FrameError> {
    Ok(match kind {
        PeerKind::Apply => {
            let body: &ArchivedApplyBody = archive(kind, body)?;
            if body.flags & !(APPLY_DURABLE | APPLY_HINT | APPLY_BACKGROUND) != 0 {
                return Err(tail.bad("has an unknown flag"));
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
            let body: &ArchivedAppliedBody = archive(kind, body)?;
            let is_durable = tail.bit(body.is_durable)?;
            Message::Applied {
                call: CallId(body.call.to_native()),
                result: tail.refusal(body.refusal)?.map_or(Ok(is_durable), Err),
                queue: body.queue.to_native(),
            }
        }
        PeerKind::Fetch => {
            let body: &ArchivedFetchBody = archive(kind, body)?;
            Message::Fetch {
                call: CallId(body.call.to_native()),
                key: tail.key_name(&body.key)?,
                wants_object: tail.bit(body.wants_object)?,
            }
        }
        PeerKind::Fetched => {
            let body: &ArchivedFetchedBody = archive(kind, body)?;
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
        PeerKind::Request => request(archive(kind, body)?, tail)?,
        PeerKind::Outcome => {
            let body: &ArchivedOutcomeBody = archive(kind, body)?;
            let bytes = tail.rest();
            Message::Outcome {
                call: CallId(body.call.to_native()),
                outcome: body.outcome(bytes.len()).map_err(|what| tail.bad(what))?,
                bytes,
            }
        }
        PeerKind::Compare => {
            let body: &ArchivedCompareBody = archive(kind, body)?;
            Message::Compare {
                call: CallId(body.call.to_native()),
                range: tail.range(body)?,
                sum: body.sum.to_native(),
                count: body.count.to_native(),
            }
        }
        PeerKind::Compared => {
            let body: &ArchivedCompareBody = archive(kind, body)?;
            Message::Compared {
                call: CallId(body.call.to_native()),
                range: tail.range(body)?,
                sum: body.sum.to_native(),
                count: body.count.to_native(),
                list: tail.list(16)?,
            }
        }
        PeerKind::Pull => {
            let body: &ArchivedPullBody = archive(kind, body)?;
            Message::Pull {
                call: CallId(body.call.to_native()),
                lane: Token(body.lane.to_native()),
                tokens: tail.list(8)?,
            }
        }
        PeerKind::Records => {
            let body: &ArchivedRecordsBody = archive(kind, body)?;
            Message::Records {
                call: CallId(body.call.to_native()),
                tokens_answered: body.tokens_answered.to_native(),
                records: tail.rest(),
                is_incomplete: tail.bit(body.is_incomplete)?,
            }
        }
        PeerKind::Reap => {
            let body: &ArchivedReapBody = archive(kind, body)?;
            Message::Reap {
                call: CallId(body.call.to_native()),
                partition: PartitionId(body.partition.to_native()),
                is_final: tail.bit(body.is_final)?,
                list: tail.list(16)?,
            }
        }
        PeerKind::Reaped => {
            let body: &ArchivedReapedBody = archive(kind, body)?;
            Message::Reaped {
                call: CallId(body.call.to_native()),
                list: tail.list(16)?,
            }
        }
        PeerKind::Gossip => {
            let _: &ArchivedGossipBody = archive(kind, body)?;
            Message::Gossip { bytes: tail.rest() }
        }
    })
}

impl BodyKind for PeerKind {
    fn bad(self, what: &'static str) -> FrameError {
        FrameError::PeerBody { kind: self, what }
    }
}

/// The checked access.
fn archive<A>(kind: PeerKind, body: &[u8]) -> Result<&A, FrameError>
where
    A: Portable + for<'a> CheckBytes<HighValidator<'a, Error>>,
{
    // rkyv looks for the archive at the end of what it gets; more than it needs would be passed over silently.
    if body.len() != size_of::<A>() {
        return Err(kind.bad("has another length than its archive"));
    }
    tail::archive(kind, body)
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
            _ => return Err(self.bad("has an unknown refusal")),
        }))
    }
}

fn request<'a>(
    body: &ArchivedRequestBody,
    tail: &mut Tail<'a>,
) -> Result<Message<&'a [u8]>, FrameError> {
    let flags = body.flags.to_native();
    if flags & !REQUEST_FLAGS != 0 {
        return Err(tail.bad("has an unknown flag"));
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
        durability: durability_of(body.durability).map_err(|what| tail.bad(what))?,
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
        _ => return Err(tail.bad("has an unknown form of context")),
    };
    let expiry =
        expiry_of(body.expiry, body.expires_at_ms.to_native()).map_err(|what| tail.bad(what))?;
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
            condition: condition_of(body.condition).map_err(|what| tail.bad(what))?,
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
        _ => return Err(tail.bad("has an unknown operation")),
    })
}
