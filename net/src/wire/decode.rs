//! A message read from a receive buffer, in place.
//!
//! Owns the order of the checks: header, length, checksum, archive, tail. Total: any bytes give a message, a wish for
//! more bytes, a frame that only a newer release understands, or an error. Never copies values.
//!
//! Invariants: what is accepted has every part of its tail; every number that stands for a word is a known one, and no
//! flag is unknown that must be understood.

use std::fmt;

use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::port::{ContextArg, Receipt};
use gramme_core::version::WriteId;

use super::body::{
    ANSWER_CONTEXT, ANSWER_EXISTED, ANSWER_PREVIOUS, ArchivedAnswerBody, ArchivedErrorBody,
    ArchivedGetBody, ArchivedHelloBody, ArchivedPeerHelloBody, ArchivedReadBody, ArchivedRingBody,
    ArchivedRingNodeBody, ArchivedWriteBody, NO_NODE, WRITE_ID, WRITE_STRICT, WRITE_WANT_CONTEXT,
    WRITE_WANT_PREVIOUS, WRITE_ZONES,
};
use super::header::{HEADER_BYTES, Header, Kind};
use super::message::{
    Answer, Delete, Effect, ErrorCode, Get, Hello, Message, PeerHello, PeerLane, Problem, Put,
    Quorum, Reply, Ring, RingNode, Write,
};
use super::peer::PeerKind;
use super::tail::{BodyKind, Tail, archive, body};
use super::version::{MUST_UNDERSTAND, Versions};
use super::words::{condition_of, durability_of, expiry_of};

/// A frame that was read.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// What it says.
    pub message: Message<'a>,
}

/// What the beginning of a buffer holds.
#[derive(Clone, Debug)]
pub enum Parse<'a> {
    /// A frame; the next begins after `frame_bytes` of its header.
    Done(Frame<'a>),
    /// A frame of a newer release that must not be read over; the next begins behind it.
    Unknown(NotUnderstood),
    /// Not yet a frame: at least so many bytes must be there.
    NeedMore(usize),
    /// Not a frame; this connection ends.
    Bad(FrameError),
}

/// A whole frame that says what this version does not know, and must.
#[derive(Clone, Copy, Debug)]
pub struct NotUnderstood {
    /// Its header.
    pub header: Header,
    /// What is not known.
    pub why: FrameError,
}

/// Why bytes are not a frame. State: nothing happened. What to do: the connection is closed with an error frame; look
/// for a client of another version, or for a network that changes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A protocol version that is not spoken here.
    Version {
        /// What was there.
        found: u8,
    },
    /// An unknown kind.
    Kind {
        /// What was there.
        found: u8,
    },
    /// An unknown flag that must be understood.
    Flags {
        /// What was there.
        found: u8,
    },
    /// The header changed on its way.
    HeaderCheck {
        /// Computed.
        expected: u8,
        /// What was there.
        found: u8,
    },
    /// Shorter than a header or over the limit.
    Length {
        /// What was announced.
        found: usize,
    },
    /// The bytes changed on their way.
    Checksum {
        /// Computed.
        expected: u32,
        /// In the header.
        found: u32,
    },
    /// A body that cannot be read.
    Body {
        /// Of which frame.
        kind: Kind,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A body that says what this version does not know.
    NewerBody {
        /// Of which frame.
        kind: Kind,
        /// What is not known.
        what: &'static str,
    },
    /// A body of a peer's frame that cannot be read.
    PeerBody {
        /// Of which frame.
        kind: PeerKind,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A body of a peer's frame that says what this version does not know.
    NewerPeerBody {
        /// Of which frame.
        kind: PeerKind,
        /// What is not known.
        what: &'static str,
    },
}

impl FrameError {
    /// Whether the frame is sound, and only of a newer release.
    pub const fn is_newer(&self) -> bool {
        matches!(
            self,
            Self::Flags { .. } | Self::NewerBody { .. } | Self::NewerPeerBody { .. }
        )
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { found } => write!(
                f,
                "protocol version {found} is not spoken here, only {} to {}; is this gramme, and of a release near this one?",
                Versions::OWN.min,
                Versions::OWN.max
            ),
            Self::Kind { found } => write!(f, "unknown kind of frame, {found}"),
            Self::Flags { found } => write!(
                f,
                "unknown flags, {found:#04x}, that must be understood; the sender is newer than this release"
            ),
            Self::HeaderCheck { expected, found } => write!(
                f,
                "the check of the frame's header is {found:02x}, not {expected:02x}: bytes changed on the way"
            ),
            Self::Length { found } => write!(
                f,
                "a frame of {found} bytes; from {HEADER_BYTES} to {} are allowed",
                super::FRAME_BYTES_MAX
            ),
            Self::Checksum { expected, found } => write!(
                f,
                "the frame's checksum is {found:08x}, not {expected:08x}: bytes changed on the way"
            ),
            Self::Body { kind, what } => write!(f, "the body of a {kind:?} frame {what}"),
            Self::NewerBody { kind, what } => write!(
                f,
                "the body of a {kind:?} frame {what}; the sender is newer than this release"
            ),
            Self::PeerBody { kind, what } => {
                write!(f, "the body of a peer's {kind:?} frame {what}")
            }
            Self::NewerPeerBody { kind, what } => write!(
                f,
                "the body of a peer's {kind:?} frame {what}; the sender is newer than this release"
            ),
        }
    }
}

impl std::error::Error for FrameError {}

/// Reads the frame at the beginning of `bytes`.
pub fn parse(bytes: &[u8]) -> Parse<'_> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Parse::NeedMore(HEADER_BYTES);
    };
    let header = match Header::from_bytes(header) {
        Ok(header) => header,
        Err(error) => return Parse::Bad(error),
    };
    let frame_bytes = header.frame_bytes as usize;
    let Some(frame) = bytes.get(..frame_bytes) else {
        return Parse::NeedMore(frame_bytes);
    };
    let fields = header.fields();
    let message = fields
        .check_sum(frame)
        .and_then(|()| fields.unknown_flag().map_or(Ok(()), Err))
        .and_then(|()| read(&header, &frame[HEADER_BYTES..]));
    match message {
        Ok(message) => Parse::Done(Frame { header, message }),
        Err(why) if why.is_newer() => Parse::Unknown(NotUnderstood { header, why }),
        Err(error) => Parse::Bad(error),
    }
}

fn read<'a>(header: &Header, rest: &'a [u8]) -> Result<Message<'a>, FrameError> {
    let kind = header.kind;
    let (bytes, tail) = rest.split_at(header.body_bytes as usize);
    let mut tail = Tail::new(kind, tail);
    Ok(match kind {
        Kind::Hello => {
            let body: ArchivedHelloBody = body(kind, bytes)?;
            Message::Hello(Hello {
                versions: Versions {
                    min: body.version_min,
                    max: body.version_max,
                },
                client: body.client.to_native(),
            })
        }
        Kind::Ring => Message::Ring(ring(kind, archive(kind, bytes)?)?),
        Kind::Get => {
            let body: ArchivedReadBody = body(kind, bytes)?;
            Message::Get(get(&body.target, body.zones, &mut tail)?)
        }
        Kind::Put => {
            let body: ArchivedWriteBody = body(kind, bytes)?;
            let write = write(&body, &mut tail)?;
            Message::Put(Put {
                write,
                expiry: expiry_of(body.expiry, body.expires_at_ms.to_native())
                    .map_err(|what| tail.newer(what))?,
                condition: condition_of(body.condition).map_err(|what| tail.newer(what))?,
                value: tail.rest(),
            })
        }
        Kind::Delete => Message::Delete(Delete {
            write: write(&body(kind, bytes)?, &mut tail)?,
        }),
        Kind::Answer => Message::Answer(answer(&body(kind, bytes)?, &mut tail)?),
        Kind::Error => Message::Error(problem(&body(kind, bytes)?, &mut tail)?),
        Kind::Peer => Message::Peer(peer(&body(kind, bytes)?, &tail)?),
        // No archive so far: the tail is all there is.
        Kind::Operate => Message::Operate(tail.rest()),
        Kind::Report => Message::Report(tail.rest()),
        Kind::Ping => Message::Ping,
        Kind::Pong => Message::Pong,
    })
}

impl BodyKind for Kind {
    fn bad(self, what: &'static str) -> FrameError {
        FrameError::Body { kind: self, what }
    }

    fn newer(self, what: &'static str) -> FrameError {
        FrameError::NewerBody { kind: self, what }
    }
}

fn get<'a>(
    body: &ArchivedGetBody,
    zones: u8,
    tail: &mut Tail<'a, Kind>,
) -> Result<Get<'a>, FrameError> {
    Ok(Get {
        bucket: tail.take(u32::from(body.bucket_bytes.to_native()))?,
        key: tail.take(body.key_bytes.to_native())?,
        deadline_us: body.deadline_us.to_native(),
        quorum: Quorum {
            n: body.n,
            r: body.r,
            w: body.w,
            zones,
        },
    })
}

fn write<'a>(body: &ArchivedWriteBody, tail: &mut Tail<'a, Kind>) -> Result<Write<'a>, FrameError> {
    let target = get(&body.target, body.zones, tail)?;
    let context = tail.take(body.context_bytes.to_native())?;
    const {
        assert!(
            MUST_UNDERSTAND == WRITE_STRICT | WRITE_ZONES,
            "all are known"
        )
    };
    Ok(Write {
        target,
        context: match (body.context, context) {
            (0, []) => ContextArg::Blind,
            (1, []) => ContextArg::Latest,
            (2, bytes) => ContextArg::Opaque(bytes),
            (0 | 1, _) => return Err(tail.bad("has a context where there is none")),
            _ => return Err(tail.newer("has an unknown form of context")),
        },
        durability: durability_of(body.durability).map_err(|what| tail.newer(what))?,
        write_id: (body.flags & WRITE_ID != 0).then(|| WriteId {
            client: body.write_client.to_native(),
            sequence: body.write_sequence.to_native(),
        }),
        is_strict: body.flags & WRITE_STRICT != 0,
        want_context: body.flags & WRITE_WANT_CONTEXT != 0,
        want_previous: body.flags & WRITE_WANT_PREVIOUS != 0,
    })
}

fn answer<'a>(
    body: &ArchivedAnswerBody,
    tail: &mut Tail<'a, Kind>,
) -> Result<Answer<'a>, FrameError> {
    if body.flags & MUST_UNDERSTAND != 0 {
        return Err(tail.newer("has an unknown flag"));
    }
    let context = tail.take(body.context_bytes.to_native())?;
    let context = (body.flags & ANSWER_CONTEXT != 0).then_some(context);
    let object = tail.rest();
    let previous = (body.flags & ANSWER_PREVIOUS != 0).then_some(object);
    Ok(Answer {
        reply: match body.form {
            1 => Reply::Object {
                object,
                key_hash: body.key_hash.to_native(),
            },
            2 => Reply::Absent,
            3 => Reply::Written {
                context,
                existed: body.flags & ANSWER_EXISTED != 0,
                previous,
            },
            4 => Reply::ConditionNotMet { previous },
            _ => return Err(tail.newer("has an unknown form")),
        },
        receipt: Receipt {
            replicas: body.replicas,
            zones: body.zones,
            on_stable_media: body.on_stable_media,
            stand_ins: body.stand_ins,
            disk_ns: body.disk_ns.to_native(),
        },
        server_ns: body.server_ns.to_native(),
        ring_epoch: body.ring_epoch.to_native(),
    })
}

fn problem<'a>(
    body: &ArchivedErrorBody,
    tail: &mut Tail<'a, Kind>,
) -> Result<Problem<'a>, FrameError> {
    let message = tail.take(body.message_bytes.to_native())?;
    Ok(Problem {
        code: ErrorCode::from_number(body.code.to_native()),
        // What is not known leaves in doubt.
        effect: match body.effect {
            0 => Effect::NotApplied,
            _ => Effect::InDoubt,
        },
        retry_after_ms: body.retry_after_ms.to_native(),
        message: std::str::from_utf8(message).map_err(|_| tail.bad("is not UTF-8"))?,
        current: tail.rest(),
    })
}

fn peer(body: &ArchivedPeerHelloBody, tail: &Tail<'_, Kind>) -> Result<PeerHello, FrameError> {
    Ok(PeerHello {
        versions: Versions {
            min: body.version_min,
            max: body.version_max,
        },
        cluster: body.cluster.to_native(),
        from: NodeId(body.from.to_native()),
        from_shard: ShardIndex(body.from_shard.to_native()),
        to: NodeId(body.to.to_native()),
        lane: match body.lane {
            0 => PeerLane::Data,
            1 => PeerLane::Control,
            _ => return Err(tail.newer("has an unknown lane")),
        },
    })
}

fn ring(kind: Kind, body: &ArchivedRingBody) -> Result<Ring, FrameError> {
    let node = |node: &ArchivedRingNodeBody| {
        Ok(RingNode {
            node: node.node.to_native(),
            host: String::from_utf8(node.host.as_slice().to_vec()).map_err(|_| {
                FrameError::Body {
                    kind,
                    what: "has a host that is not UTF-8",
                }
            })?,
            port: node.port.to_native(),
            shard_ports: node
                .shard_ports
                .iter()
                .map(|port| port.to_native())
                .collect(),
        })
    };
    let replicas = body.replicas.to_native() as usize;
    let routes = if replicas == 0 {
        Vec::new()
    } else {
        body.routes
            .as_slice()
            .chunks(replicas)
            .map(|route| {
                let nodes = route.iter().map(|node| node.to_native());
                nodes.filter(|node| *node != NO_NODE).collect()
            })
            .collect()
    };
    Ok(Ring {
        routes,
        epoch: body.epoch.to_native(),
        partitions: body.partitions.to_native(),
        answered_by: body.answered_by.to_native(),
        nodes: body.nodes.iter().map(node).collect::<Result<_, _>>()?,
    })
}
