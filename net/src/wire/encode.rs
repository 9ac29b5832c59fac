//! A message appended to a send buffer.
//!
//! Owns the writing of frames: header, archived body, tail; each byte of a value is copied once.
//! Never checks limits of keys and values: the client's edge does.

use rkyv::Serialize;
use rkyv::api::high::HighSerializer;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;

use super::body::{
    ANSWER_CONTEXT, ANSWER_EXISTED, ANSWER_PREVIOUS, AnswerBody, ErrorBody, GetBody, HelloBody,
    NO_NODE, PeerHelloBody, ReadBody, RingBody, RingNodeBody, WRITE_ID, WRITE_STRICT,
    WRITE_WANT_CONTEXT, WRITE_WANT_PREVIOUS, WRITE_ZONES, WriteBody,
};
use super::header::{FLAG_CHECKSUM, HEADER_BYTES, Header, Kind, finish};
use super::message::{Answer, Effect, Get, Message, PeerLane, Reply, Ring, Write};
use super::words;

/// Appends one frame. `checksum` where it crosses machines.
pub fn encode(out: &mut Vec<u8>, request_id: u64, checksum: bool, message: &Message<'_>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let (kind, body_end) = match message {
        Message::Hello(hello) => {
            let body = HelloBody {
                version_max: hello.versions.max,
                client: hello.client,
                version_min: hello.versions.min,
            };
            (Kind::Hello, frame(out, &body, &[]))
        }
        Message::Ring(ring) => (Kind::Ring, frame(out, &ring_body(ring), &[])),
        Message::Get(get) => (
            Kind::Get,
            frame(out, &read_body(get), &[get.bucket, get.key]),
        ),
        Message::Put(put) => {
            let (expiry, expires_at_ms) = words::expiry(put.expiry);
            let body = WriteBody {
                expiry,
                expires_at_ms,
                condition: words::condition(put.condition),
                ..write_body(&put.write)
            };
            (Kind::Put, write_frame(out, &body, &put.write, put.value))
        }
        Message::Delete(delete) => (
            Kind::Delete,
            write_frame(out, &write_body(&delete.write), &delete.write, &[]),
        ),
        Message::Answer(answer) => (Kind::Answer, answer_frame(out, answer)),
        Message::Error(problem) => {
            let body = ErrorBody {
                code: problem.code as u16,
                effect: u8::from(problem.effect == Effect::InDoubt),
                retry_after_ms: problem.retry_after_ms,
                message_bytes: length(problem.message.as_bytes()),
            };
            let tail = [problem.message.as_bytes(), problem.current];
            (Kind::Error, frame(out, &body, &tail))
        }
        Message::Peer(hello) => {
            let body = PeerHelloBody {
                version_max: hello.versions.max,
                cluster: hello.cluster,
                from: hello.from.0,
                from_shard: hello.from_shard.0,
                to: hello.to.0,
                lane: u8::from(hello.lane == PeerLane::Control),
                version_min: hello.versions.min,
            };
            (Kind::Peer, frame(out, &body, &[]))
        }
        // No archive: the tail is all there is.
        Message::Operate(command) => (Kind::Operate, tail_frame(out, command)),
        Message::Report(answer) => (Kind::Report, tail_frame(out, answer)),
        Message::Ping => (Kind::Ping, out.len()),
        Message::Pong => (Kind::Pong, out.len()),
    };
    let header = Header {
        frame_bytes: length(&out[start..]),
        kind,
        flags: if checksum { FLAG_CHECKSUM } else { 0 },
        request_id,
        checksum: 0,
        body_bytes: length(&out[start + HEADER_BYTES..body_end]),
    };
    finish(out, start, header.fields());
}

/// Appends a tail without an archive; returns where that would end.
fn tail_frame(out: &mut Vec<u8>, tail: &[u8]) -> usize {
    let body_end = out.len();
    out.extend_from_slice(tail);
    body_end
}

/// Appends the archive and the tail; returns where the archive ends.
pub(super) fn frame<B>(out: &mut Vec<u8>, body: &B, tail: &[&[u8]]) -> usize
where
    B: for<'a, 'b> Serialize<HighSerializer<&'b mut Vec<u8>, ArenaHandle<'a>, Error>>,
{
    rkyv::api::high::to_bytes_in::<_, Error>(body, &mut *out)
        .expect("a flat archive into memory cannot fail");
    let body_end = out.len();
    tail.iter().for_each(|part| out.extend_from_slice(part));
    body_end
}

fn write_frame(out: &mut Vec<u8>, body: &WriteBody, write: &Write<'_>, value: &[u8]) -> usize {
    let context = write.context.bytes();
    let tail = [write.target.bucket, write.target.key, context, value];
    frame(out, body, &tail)
}

fn answer_frame(out: &mut Vec<u8>, answer: &Answer<'_>) -> usize {
    let mut body = AnswerBody {
        replicas: answer.receipt.replicas,
        zones: answer.receipt.zones,
        on_stable_media: answer.receipt.on_stable_media,
        stand_ins: answer.receipt.stand_ins,
        disk_ns: answer.receipt.disk_ns,
        server_ns: answer.server_ns,
        ring_epoch: answer.ring_epoch,
        ..AnswerBody::default()
    };
    let tail: [&[u8]; 2] = match answer.reply {
        Reply::Object { object, key_hash } => {
            (body.form, body.key_hash) = (1, key_hash);
            [&[], object]
        }
        Reply::Absent => {
            body.form = 2;
            [&[], &[]]
        }
        Reply::Written {
            context,
            existed,
            previous,
        } => {
            body.form = 3;
            body.flags = flag(existed, ANSWER_EXISTED)
                | flag(context.is_some(), ANSWER_CONTEXT)
                | flag(previous.is_some(), ANSWER_PREVIOUS);
            body.context_bytes = length(context.unwrap_or_default());
            [context.unwrap_or_default(), previous.unwrap_or_default()]
        }
        Reply::ConditionNotMet { previous } => {
            body.form = 4;
            body.flags = flag(previous.is_some(), ANSWER_PREVIOUS);
            [&[], previous.unwrap_or_default()]
        }
    };
    frame(out, &body, &tail)
}

fn ring_body(ring: &Ring) -> RingBody {
    let node = |node: &super::RingNode| RingNodeBody {
        node: node.node,
        host: node.host.clone().into_bytes(),
        port: node.port,
        shard_ports: node.shard_ports.clone(),
    };
    let replicas = ring.routes.iter().map(Vec::len).max().unwrap_or(0);
    let route = |nodes: &Vec<u16>| {
        let filling = core::iter::repeat_n(NO_NODE, replicas - nodes.len());
        nodes.iter().copied().chain(filling).collect::<Vec<u16>>()
    };
    RingBody {
        replicas: u32::try_from(replicas).unwrap_or(u32::MAX),
        routes: ring.routes.iter().flat_map(route).collect(),
        epoch: ring.epoch,
        partitions: ring.partitions,
        answered_by: ring.answered_by,
        nodes: ring.nodes.iter().map(node).collect(),
    }
}

fn get_body(get: &Get<'_>) -> GetBody {
    GetBody {
        deadline_us: get.deadline_us,
        n: get.quorum.n,
        r: get.quorum.r,
        w: get.quorum.w,
        bucket_bytes: u16::try_from(get.bucket.len()).expect("a bucket's name was checked"),
        key_bytes: length(get.key),
    }
}

fn read_body(get: &Get<'_>) -> ReadBody {
    ReadBody {
        target: get_body(get),
        zones: get.quorum.zones,
    }
}

fn write_body(write: &Write<'_>) -> WriteBody {
    WriteBody {
        target: get_body(&write.target),
        flags: flag(write.want_context, WRITE_WANT_CONTEXT)
            | flag(write.want_previous, WRITE_WANT_PREVIOUS)
            | flag(write.write_id.is_some(), WRITE_ID)
            | flag(write.is_strict, WRITE_STRICT)
            | flag(write.target.quorum.zones > 1, WRITE_ZONES),
        durability: words::durability(write.durability),
        context: words::context_form(&write.context),
        context_bytes: length(write.context.bytes()),
        write_client: write.write_id.map_or(0, |id| id.client),
        write_sequence: write.write_id.map_or(0, |id| id.sequence),
        zones: write.target.quorum.zones,
        ..WriteBody::default()
    }
}

pub(super) const fn flag(is_set: bool, flag: u8) -> u8 {
    if is_set { flag } else { 0 }
}

pub(super) fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("frames are shorter than 4 GiB")
}
