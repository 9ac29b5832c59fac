//! One native connection: its frames, and its requests on their way.
//!
//! Owns the slots that tie a request's tag to the id that the client chose. Never copies a key or a value: requests
//! borrow the receive buffer.
//!
//! Invariants:
//! - at most [`IN_FLIGHT_MAX`] requests are on their way; beyond it the session takes no input;
//! - bytes that are not a frame end this connection with an error frame, after the answers before it, and only it.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use gramme_core::base::hash;
use gramme_core::base::ids::Token;
use gramme_core::base::limits::{
    BUCKET_BYTES_MAX, CONTEXT_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX,
};
use gramme_core::port::{self, Durability, Lane, Op, Outcome, Request};

use super::RingTable;
use super::answer::{Taken, of_outcome};
use super::operator::permitted;
use crate::reactor::session::{Io, Protocol, Session};
use crate::secret::Secret;
use crate::wire::{
    self, Effect, ErrorCode, FLAG_CHECKSUM, Frame, FrameError, Get, HEADER_BYTES, Header, Message,
    Parse, Problem, Quorum, Versions, Write,
};

/// Requests of one connection on their way at once.
pub const IN_FLIGHT_MAX: usize = 1024;

/// A client's frame is refused beyond this length: the largest put and what is around it.
pub const REQUEST_BYTES_MAX: usize =
    HEADER_BYTES + 256 + BUCKET_BYTES_MAX + KEY_BYTES_MAX + CONTEXT_BYTES_MAX + VALUE_BYTES_MAX;

/// What another node says of itself is shorter than this.
const HELLO_BYTES_MAX: usize = 256;

/// The request id of an error that concerns the whole connection.
const CONNECTION_ID: u64 = u64::MAX;

/// The native protocol of a node.
#[derive(Clone, Debug)]
pub struct NativeProtocol {
    table: Arc<RingTable>,
    /// What operators' changes must say; none: everybody may.
    admin_token: Option<Arc<Secret>>,
}

impl NativeProtocol {
    /// Hands out this table.
    pub const fn new(table: Arc<RingTable>) -> Self {
        Self {
            table,
            admin_token: None,
        }
    }

    /// The same, and operators' changes of the cluster must say this.
    #[must_use]
    pub fn with_admin_token(mut self, token: Option<Arc<Secret>>) -> Self {
        self.admin_token = token;
        self
    }
}

impl Protocol for NativeProtocol {
    fn open(&self, _peer: Option<SocketAddr>) -> Box<dyn Session> {
        Box::new(NativeSession {
            table: self.table.clone(),
            admin_token: self.admin_token.clone(),
            slots: Vec::new(),
            free: Vec::new(),
        })
    }

    fn open_beyond(&self) -> Option<Box<dyn Session>> {
        Some(Box::new(NodesOnly))
    }

    fn refusal(&self) -> &'static [u8] {
        refusal()
    }
}

/// What a client is told that is one too many.
fn refusal() -> &'static [u8] {
    static REFUSAL: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut bytes = Vec::new();
        let problem = Problem {
            code: ErrorCode::Overloaded,
            effect: Effect::NotApplied,
            retry_after_ms: 1_000,
            message: "this shard has as many connections as it may; use fewer, or another node",
            current: &[],
        };
        wire::encode(&mut bytes, CONNECTION_ID, false, &Message::Error(problem));
        bytes
    });
    &REFUSAL
}

/// One connection.
struct NativeSession {
    table: Arc<RingTable>,
    admin_token: Option<Arc<Secret>>,
    // per request, by tag
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// A connection that is one too many, unless it is another node's.
struct NodesOnly;

impl Session for NodesOnly {
    fn received(&mut self, input: &[u8], io: &mut Io<'_>) -> usize {
        if let Parse::Done(Frame {
            header,
            message: Message::Peer(hello),
        }) = wire::parse(input)
        {
            io.said = Some(Box::new(hello));
            return header.frame_bytes as usize;
        }
        if input.len() < HEADER_BYTES + HELLO_BYTES_MAX
            && matches!(wire::parse(input), Parse::NeedMore(bytes) if bytes <= HEADER_BYTES + HELLO_BYTES_MAX)
        {
            return 0;
        }
        io.out.extend_from_slice(refusal());
        io.is_ended = true;
        input.len()
    }

    fn reply(&mut self, _: u32, _: &Outcome, _: &[u8], _: &mut Io<'_>) {}

    fn is_blocked(&self) -> bool {
        false
    }
}

/// A request on its way.
#[derive(Clone, Copy)]
struct Slot {
    request_id: u64,
    arrived_ns: u64,
    checksum: bool,
}

impl Session for NativeSession {
    fn received(&mut self, input: &[u8], io: &mut Io<'_>) -> usize {
        let mut used = 0;
        while !self.is_blocked() && !io.is_ended && io.said.is_none() {
            let rest = &input[used..];
            match parse_request(rest) {
                Parse::Done(frame) => {
                    used += frame.header.frame_bytes as usize;
                    self.take(&frame, io);
                }
                Parse::Unknown(frame) => {
                    used += frame.header.frame_bytes as usize;
                    refuse(io, &frame.header, &frame.why.to_string());
                }
                Parse::NeedMore(_) => break,
                Parse::Bad(error) => {
                    end(io, &error.to_string());
                    return input.len();
                }
            }
        }
        used
    }

    fn reply(&mut self, tag: u32, outcome: &Outcome, bytes: &[u8], io: &mut Io<'_>) {
        let Some(slot) = self.slots.get(tag as usize).copied() else {
            return;
        };
        self.free.push(tag);
        if let Outcome::Cluster(report) = outcome {
            let report = Message::Report(report.of(bytes));
            wire::encode(io.out, slot.request_id, slot.checksum, &report);
            return;
        }
        let taken = Taken {
            server_ns: io.port.now().mono_ns.saturating_sub(slot.arrived_ns),
            ring_epoch: self.table.epoch(),
        };
        match of_outcome(outcome, bytes, &taken) {
            Ok(answer) => wire::encode(
                io.out,
                slot.request_id,
                slot.checksum,
                &Message::Answer(answer),
            ),
            Err(refusal) => {
                let problem = Problem {
                    code: refusal.code,
                    effect: refusal.effect,
                    retry_after_ms: refusal.retry_after_ms,
                    message: &refusal.message,
                    current: refusal.current,
                };
                let message = Message::Error(problem);
                wire::encode(io.out, slot.request_id, slot.checksum, &message);
            }
        }
    }

    fn is_blocked(&self) -> bool {
        self.slots.len() - self.free.len() >= IN_FLIGHT_MAX
    }
}

impl NativeSession {
    fn take(&mut self, frame: &Frame<'_>, io: &mut Io<'_>) {
        let header = &frame.header;
        let checksum = header.flags & FLAG_CHECKSUM != 0;
        match &frame.message {
            Message::Get(get) => self.submit(header, get, (quorum_of(get), None), Op::Get, io),
            Message::Put(put) => {
                let op = Op::Put(port::Put {
                    context: put.write.context,
                    value: put.value,
                    expiry: put.expiry,
                    condition: put.condition,
                    want_previous: put.write.want_previous,
                    want_context: put.write.want_context,
                    write_id: put.write.write_id,
                });
                self.submit_write(header, &put.write, op, io);
            }
            Message::Delete(delete) => {
                let op = Op::Delete {
                    context: delete.write.context,
                    want_previous: delete.write.want_previous,
                    want_context: delete.write.want_context,
                    write_id: delete.write.write_id,
                };
                self.submit_write(header, &delete.write, op, io);
            }
            Message::Hello(hello) => {
                if let Err(why) = Versions::OWN.spoken_with(hello.versions) {
                    return end(io, &why);
                }
                let ring = Message::Ring((*self.table.ring()).clone());
                wire::encode(io.out, header.request_id, checksum, &ring);
            }
            Message::Ping => wire::encode(io.out, header.request_id, checksum, &Message::Pong),
            Message::Pong => {}
            Message::Peer(hello) => io.said = Some(Box::new(*hello)),
            Message::Operate(command) => self.operate(header, command, io),
            Message::Ring(_) | Message::Answer(_) | Message::Error(_) | Message::Report(_) => {
                end(io, "a client's frame was expected, not a server's");
            }
        }
    }

    /// An operator's command, for the control shard.
    fn operate(&mut self, header: &Header, command: &[u8], io: &mut Io<'_>) {
        let command = match permitted(self.admin_token.as_deref(), command) {
            Ok(command) => command,
            Err(why) => return refuse(io, header, why),
        };
        let now_ns = io.port.now().mono_ns;
        let tag = self.slot(header, now_ns);
        let request = Request {
            id: io.connection.request(tag),
            deadline_ns: None,
            bucket: &[],
            key: &[],
            token: Token::default(),
            durability: None,
            quorum: port::Quorum::default(),
            wants_object: false,
            is_forwarded: false,
            op: Op::Cluster { command: &command },
        };
        io.port.submit_to(Lane::CONTROL_SHARD, request);
    }

    /// A slot for a request that has arrived; returns its tag.
    fn slot(&mut self, header: &Header, arrived_ns: u64) -> u32 {
        let slot = Slot {
            request_id: header.request_id,
            arrived_ns,
            checksum: header.flags & FLAG_CHECKSUM != 0,
        };
        match self.free.pop() {
            Some(tag) => {
                self.slots[tag as usize] = slot;
                tag
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("slots are bounded by IN_FLIGHT_MAX")
            }
        }
    }

    fn submit_write(&mut self, header: &Header, write: &Write<'_>, op: Op<'_>, io: &mut Io<'_>) {
        let quorum = port::Quorum {
            is_strict: write.is_strict,
            ..quorum_of(&write.target)
        };
        self.submit(header, &write.target, (quorum, write.durability), op, io);
    }

    fn submit(
        &mut self,
        header: &Header,
        target: &Get<'_>,
        (quorum, durability): (port::Quorum, Option<Durability>),
        op: Op<'_>,
        io: &mut Io<'_>,
    ) {
        if let Some(what) = contradiction(target.quorum) {
            return refuse(io, header, what);
        }
        let now_ns = io.port.now().mono_ns;
        let tag = self.slot(header, now_ns);
        io.port.submit(Request {
            id: io.connection.request(tag),
            deadline_ns: (target.deadline_us != 0)
                .then(|| now_ns.saturating_add(target.deadline_us.saturating_mul(1_000))),
            bucket: target.bucket,
            key: target.key,
            token: hash::token(target.bucket, target.key),
            durability,
            quorum,
            wants_object: false,
            is_forwarded: false,
            op,
        });
    }
}

/// A frame of a client's: one that no request needs is refused by its announced length, before it is received.
fn parse_request(bytes: &[u8]) -> Parse<'_> {
    match wire::parse(bytes) {
        Parse::NeedMore(found) if found > REQUEST_BYTES_MAX => {
            Parse::Bad(FrameError::Length { found })
        }
        parse => parse,
    }
}

fn quorum_of(target: &Get<'_>) -> port::Quorum {
    port::Quorum {
        n: target.quorum.n,
        r: target.quorum.r,
        w: target.quorum.w,
        zones: target.quorum.zones,
        ..port::Quorum::default()
    }
}

const fn contradiction(quorum: Quorum) -> Option<&'static str> {
    if quorum.n != 0 && (quorum.r > quorum.n || quorum.w > quorum.n) {
        return Some("r and w cannot exceed n; ask for fewer answers or more replicas");
    }
    None
}

/// Answers one request with an error frame; nothing was done for it.
fn refuse(io: &mut Io<'_>, header: &Header, message: &str) {
    let problem = Problem {
        code: ErrorCode::BadRequest,
        effect: Effect::NotApplied,
        retry_after_ms: 0,
        message,
        current: &[],
    };
    let checksum = header.flags & FLAG_CHECKSUM != 0;
    wire::encode(
        io.out,
        header.request_id,
        checksum,
        &Message::Error(problem),
    );
}

/// Ends the connection with an error frame.
fn end(io: &mut Io<'_>, message: &str) {
    let problem = Problem {
        code: ErrorCode::BadFrame,
        effect: Effect::NotApplied,
        retry_after_ms: 0,
        message,
        current: &[],
    };
    wire::encode(io.out, CONNECTION_ID, false, &Message::Error(problem));
    io.is_ended = true;
}
