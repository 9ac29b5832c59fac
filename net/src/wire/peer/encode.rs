//! A message between nodes appended to a send buffer; each byte of an object is copied once.

use gramme_core::port::{CallId, KeyName, Lane, Message, Op, Refusal, Request, TokenRange};

use super::super::encode::{flag, frame, length};
use super::super::header::{FLAG_CHECKSUM, Fields, finish};
use super::super::words;
use super::body::{
    APPLY_BACKGROUND, APPLY_DURABLE, APPLY_HINT, AppliedBody, ApplyBody, CompareBody, FetchBody,
    FetchedBody, GossipBody, KeyBody, OutcomeBody, PullBody, REQUEST_DEADLINE, REQUEST_FORWARDED,
    REQUEST_OP_OBJECT, REQUEST_STRICT, REQUEST_WANT_CONTEXT, REQUEST_WANT_PREVIOUS,
    REQUEST_WANTS_OBJECT, REQUEST_WRITE_ID, ReapBody, ReapedBody, RecordsBody, RequestBody,
};
use super::{
    FLAG_LANE_CONTROL, FLAG_LANE_TOKEN, PEER_FRAME_BYTES_MAX, PeerFrame, PeerKind, START_BYTES,
};

/// Appends one frame, `checksum` where it crosses machines; returns whether it did: a message that is longer than a
/// frame may be leaves the buffer as it was.
pub fn encode_peer(out: &mut Vec<u8>, checksum: bool, content: &PeerFrame<'_>) -> bool {
    let start = out.len();
    out.resize(start + START_BYTES, 0);
    let (kind, body_end) = body(out, &content.message);
    let body_bytes = body_end - start - START_BYTES;
    if out.len() - start > PEER_FRAME_BYTES_MAX {
        out.truncate(start);
        return false;
    }
    let (lane_flag, id) = match content.lane {
        Lane::Token(token) => (FLAG_LANE_TOKEN, token.0),
        Lane::Shard(shard) => (0, u64::from(shard.0)),
        Lane::Control => (FLAG_LANE_CONTROL, 0),
    };
    let time = start + START_BYTES - 8..start + START_BYTES;
    out[time].copy_from_slice(&content.sent_ms.to_le_bytes());
    let fields = Fields {
        frame_bytes: length(&out[start..]),
        kind: kind as u8,
        flags: lane_flag | flag(checksum, FLAG_CHECKSUM),
        id,
        checksum: 0,
        body_bytes: u32::try_from(body_bytes).expect("bodies are flat and short"),
    };
    finish(out, start, fields);
    true
}

/// Appends archive and tail; returns where the archive ends.
fn body(out: &mut Vec<u8>, message: &Message<&[u8]>) -> (PeerKind, usize) {
    match *message {
        Message::Apply {
            call,
            key,
            object,
            is_durable,
            hint_for,
            is_background,
        } => {
            let body = ApplyBody {
                call: call.0,
                key: key_body(&key),
                hint_for: hint_for.map_or(0, |node| node.0),
                flags: flag(is_durable, APPLY_DURABLE)
                    | flag(hint_for.is_some(), APPLY_HINT)
                    | flag(is_background, APPLY_BACKGROUND),
            };
            let tail = [key.bucket, key.key, object];
            (PeerKind::Apply, frame(out, &body, &tail))
        }
        Message::Applied {
            call,
            result,
            queue,
        } => {
            let body = AppliedBody {
                call: call.0,
                queue,
                refusal: result.err().map_or(0, refusal),
                is_durable: u8::from(result == Ok(true)),
            };
            (PeerKind::Applied, frame(out, &body, &[]))
        }
        Message::Fetch {
            call,
            key,
            wants_object,
        } => {
            let body = FetchBody {
                call: call.0,
                key: key_body(&key),
                wants_object: u8::from(wants_object),
            };
            (PeerKind::Fetch, frame(out, &body, &[key.bucket, key.key]))
        }
        Message::Fetched {
            call,
            result,
            queue,
        } => {
            let object = result.ok().and_then(|held| held.object);
            let body = FetchedBody {
                call: call.0,
                queue,
                refusal: result.err().map_or(0, refusal),
                has_object: u8::from(object.is_some()),
                fingerprint: result.map_or(0, |held| held.fingerprint),
            };
            let tail = [object.unwrap_or_default()];
            (PeerKind::Fetched, frame(out, &body, &tail))
        }
        Message::Request {
            call,
            name,
            shape,
            key,
            value,
            context,
        } => {
            let mut body = request_body(&shape);
            body.call = call.0;
            body.name = name;
            body.key = key_body(&key);
            body.context_bytes = length(context);
            let tail = [key.bucket, key.key, context, value];
            (PeerKind::Request, frame(out, &body, &tail))
        }
        Message::Outcome {
            call,
            ref outcome,
            bytes,
        } => {
            let body = OutcomeBody::new(call.0, outcome);
            (PeerKind::Outcome, frame(out, &body, &[bytes]))
        }
        Message::Compare {
            call,
            range,
            sum,
            count,
        } => {
            let body = compare_body(call, range, (sum, count));
            (PeerKind::Compare, frame(out, &body, &[]))
        }
        Message::Compared {
            call,
            range,
            sum,
            count,
            list,
        } => {
            let body = compare_body(call, range, (sum, count));
            (PeerKind::Compared, frame(out, &body, &[list]))
        }
        Message::Pull { call, lane, tokens } => {
            let body = PullBody {
                call: call.0,
                lane: lane.0,
            };
            (PeerKind::Pull, frame(out, &body, &[tokens]))
        }
        Message::Records {
            call,
            tokens_answered,
            records,
            is_incomplete,
        } => {
            let body = RecordsBody {
                call: call.0,
                tokens_answered,
                is_incomplete: u8::from(is_incomplete),
            };
            (PeerKind::Records, frame(out, &body, &[records]))
        }
        Message::Reap {
            call,
            partition,
            is_final,
            list,
        } => {
            let body = ReapBody {
                call: call.0,
                partition: partition.0,
                is_final: u8::from(is_final),
            };
            (PeerKind::Reap, frame(out, &body, &[list]))
        }
        Message::Reaped { call, list } => {
            let body = ReapedBody { call: call.0 };
            (PeerKind::Reaped, frame(out, &body, &[list]))
        }
        Message::Gossip { bytes } => (
            PeerKind::Gossip,
            frame(out, &GossipBody::default(), &[bytes]),
        ),
    }
}

fn key_body(key: &KeyName<&[u8]>) -> KeyBody {
    KeyBody {
        token: key.token.0,
        bucket_bytes: u16::try_from(key.bucket.len()).expect("a bucket's name was checked"),
        key_bytes: length(key.key),
    }
}

const fn compare_body(call: CallId, range: TokenRange, (sum, count): (u64, u64)) -> CompareBody {
    CompareBody {
        call: call.0,
        first: range.first.0,
        last: range.last.0,
        sum,
        count,
    }
}

const fn refusal(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::NotHere => 1,
        Refusal::Overloaded => 2,
        Refusal::DiskFull => 3,
        Refusal::ReadOnly => 4,
        Refusal::Unreadable => 5,
        Refusal::BadObject => 6,
        Refusal::Stopping => 7,
    }
}

const fn flag16(is_set: bool, flag: u16) -> u16 {
    if is_set { flag } else { 0 }
}

fn request_body(shape: &Request<'_>) -> RequestBody {
    let mut body = RequestBody {
        deadline_ns: shape.deadline_ns.unwrap_or(0),
        flags: flag16(shape.deadline_ns.is_some(), REQUEST_DEADLINE)
            | flag16(shape.wants_object, REQUEST_WANTS_OBJECT)
            | flag16(shape.is_forwarded, REQUEST_FORWARDED)
            | flag16(shape.quorum.is_strict, REQUEST_STRICT),
        n: shape.quorum.n,
        r: shape.quorum.r,
        w: shape.quorum.w,
        zones: shape.quorum.zones,
        durability: words::durability(shape.durability),
        ..RequestBody::default()
    };
    match shape.op {
        Op::Get => body.op = 1,
        Op::Exists => body.op = 2,
        Op::Fetch { wants_object } => {
            body.op = 3;
            body.flags |= flag16(wants_object, REQUEST_OP_OBJECT);
        }
        Op::Put(put) => {
            body.op = 4;
            body.context = words::context_form(&put.context);
            (body.expiry, body.expires_at_ms) = words::expiry(put.expiry);
            body.condition = words::condition(put.condition);
            body.flags |= flag16(put.want_previous, REQUEST_WANT_PREVIOUS)
                | flag16(put.want_context, REQUEST_WANT_CONTEXT);
            write_id(&mut body, put.write_id);
        }
        Op::Delete {
            context,
            want_previous,
            want_context,
            write_id: id,
        } => {
            body.op = 5;
            body.context = words::context_form(&context);
            body.flags |= flag16(want_previous, REQUEST_WANT_PREVIOUS)
                | flag16(want_context, REQUEST_WANT_CONTEXT);
            write_id(&mut body, id);
        }
        Op::Merge { .. } => body.op = 6,
        Op::SetExpiry {
            expiry,
            want_previous,
        } => {
            body.op = 7;
            (body.expiry, body.expires_at_ms) = words::expiry(expiry);
            body.flags |= flag16(want_previous, REQUEST_WANT_PREVIOUS);
        }
        // A walk over records stays in its node; a peer that was asked for one would list keys.
        Op::Scan { cursor, count } | Op::Records { cursor, count } => {
            body.op = 8;
            (body.cursor, body.count) = (cursor, count);
        }
        Op::Cluster { .. } => body.op = 9,
        Op::Count => body.op = 10,
    }
    body
}

fn write_id(body: &mut RequestBody, id: Option<gramme_core::version::WriteId>) {
    if let Some(id) = id {
        body.flags |= REQUEST_WRITE_ID;
        (body.write_client, body.write_sequence) = (id.client, id.sequence);
    }
}
