//! Detector: who seems alive to this node, by SWIM with suspicion and by what it hears itself.
//!
//! Owns `foca` as the state machine that it is: its timers lie in a queue here, its datagrams go out as gossip. Beside it
//! stands direct evidence: a node that was just heard is alive, one whose connection just broke and that does not answer
//! at once is away. Never moves data, never tells anyone's opinion but its own.
//!
//! Invariants: the same seed and the same calls give the same answers; bytes from outside never panic.

use core::convert::Infallible;
use core::fmt;
use core::num::{NonZeroU8, NonZeroUsize};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use foca::{Config, Foca, Header, Identity, Member, Message, Notification, PeriodicParams, State};
use foca::{Runtime, Timer};

use super::rng::Rng;
use crate::base::ids::NodeId;
use crate::ring::bytes::{Reader, RingBytesError, Writer};

/// One life of a node, as the detector tells them apart. A later one of the same node wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    pub(super) node: NodeId,
    /// How often its data directory was started.
    pub(super) start: u64,
    /// How often it was taken for dead since then, and found out.
    pub(super) renewal: u32,
}

impl Identity for Life {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        let renewal = self.renewal.checked_add(1)?;
        Some(Self { renewal, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.start, self.renewal) > (adversary.start, adversary.renewal)
    }
}

/// How long a node that was heard is alive, whatever others say.
const HEARD_NS: u64 = 800_000_000;
/// How long a node may leave a question open after its connection broke.
const LOST_NS: u64 = 250_000_000;
/// How long a node that was never heard counts as alive: a start should not begin with refusals.
const BENEFIT_NS: u64 = 1_500_000_000;
/// A datagram's greatest length.
const DATAGRAM_BYTES_MAX: usize = 1_400;

/// What the detector wants sent.
pub(super) struct Datagram {
    pub(super) to: NodeId,
    pub(super) bytes: Vec<u8>,
}

/// What is known of a node beside foca's opinion.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    known_ns: u64,
    heard_ns: Option<u64>,
    lost_ns: Option<u64>,
}

/// This node's opinion of all others.
pub(super) struct Detector {
    foca: Foca<Life, LifeCodec, Rng, foca::NoCustomBroadcast>,
    queue: Queue,
    evidence: BTreeMap<NodeId, Evidence>,
}

impl Detector {
    pub(super) fn new(me: Life, seed: u64) -> Self {
        Self {
            foca: Foca::new(me, config(), Rng::new(seed), LifeCodec),
            queue: Queue::default(),
            evidence: BTreeMap::new(),
        }
    }

    /// This node's present life: later than it began with when others took it for dead.
    pub(super) fn life(&self) -> Life {
        *self.foca.identity()
    }

    /// A member of the cluster from now on; nothing was heard of it yet.
    pub(super) fn know(&mut self, node: NodeId, now_ns: u64) {
        self.evidence.entry(node).or_insert(Evidence {
            known_ns: now_ns,
            ..Evidence::default()
        });
    }

    /// No member any more.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.evidence.remove(&node);
    }

    /// Anything arrived from it.
    pub(super) fn heard(&mut self, life: Life, now_ns: u64) {
        let evidence = self.evidence.entry(life.node).or_insert(Evidence {
            known_ns: now_ns,
            ..Evidence::default()
        });
        evidence.heard_ns = Some(now_ns);
        evidence.lost_ns = None;
        self.queue.now_ns = now_ns;
        // Only a broken codec fails here, and ours writes to memory.
        let _ = self
            .foca
            .apply_many(core::iter::once(Member::alive(life)), true, &mut self.queue);
    }

    /// The connection to it broke; returns whether to ask it at once whether it is there.
    pub(super) fn lost(&mut self, node: NodeId, now_ns: u64) -> bool {
        match self.evidence.get_mut(&node) {
            Some(evidence) if evidence.lost_ns.is_none() => {
                evidence.lost_ns = Some(now_ns);
                true
            }
            Some(_) | None => false,
        }
    }

    /// A datagram of another node's detector; what is none is dropped.
    pub(super) fn datagram(&mut self, bytes: &[u8], now_ns: u64) {
        self.queue.now_ns = now_ns;
        let _ = self.foca.handle_data(bytes, &mut self.queue);
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now_ns: u64) {
        self.queue.now_ns = now_ns;
        while let Some(timer) = self.queue.take_due(now_ns) {
            let _ = self.foca.handle_timer(timer, &mut self.queue);
        }
    }

    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        let (at_ns, _) = self.queue.timers.first_key_value()?.0;
        Some(*at_ns)
    }

    /// What it wants sent since the last call.
    pub(super) fn take_datagrams(&mut self) -> Vec<Datagram> {
        core::mem::take(&mut self.queue.datagrams)
    }

    /// Whether a node seems alive.
    pub(super) fn is_alive(&self, node: NodeId, now_ns: u64) -> bool {
        let within = |at_ns: u64, span_ns: u64| now_ns.saturating_sub(at_ns) < span_ns;
        let Some(evidence) = self.evidence.get(&node) else {
            return false;
        };
        if evidence
            .lost_ns
            .is_some_and(|at_ns| !within(at_ns, LOST_NS))
        {
            return false;
        }
        match evidence.heard_ns {
            Some(heard_ns) => within(heard_ns, HEARD_NS) || self.queue.active.contains(&node),
            None => within(evidence.known_ns, BENEFIT_NS) || self.queue.active.contains(&node),
        }
    }

    /// How long ago it was heard.
    pub(super) fn heard_ago_ns(&self, node: NodeId, now_ns: u64) -> Option<u64> {
        let heard_ns = self.evidence.get(&node)?.heard_ns?;
        Some(now_ns.saturating_sub(heard_ns))
    }

    /// Tells some others that this node goes, so that they need not find out.
    pub(super) fn leave(&mut self, now_ns: u64) {
        self.queue.now_ns = now_ns;
        let _ = self.foca.leave_cluster(&mut self.queue);
    }
}

/// Down is found within two periods of a probe and the time of suspicion: 1 to 2 s on a local network.
fn config() -> Config {
    Config {
        probe_period: Duration::from_millis(400),
        probe_rtt: Duration::from_millis(130),
        num_indirect_probes: NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN),
        max_transmissions: NonZeroU8::new(8).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: Duration::from_millis(700),
        remove_down_after: Some(Duration::from_secs(24 * 3600)),
        max_packet_size: NonZeroUsize::new(DATAGRAM_BYTES_MAX).unwrap_or(NonZeroUsize::MIN),
        notify_down_members: true,
        periodic_announce: periodic(10_000, 1),
        periodic_announce_to_down_members: periodic(500, 2),
        periodic_gossip: periodic(200, 2),
    }
}

fn periodic(every_ms: u64, members: usize) -> Option<PeriodicParams> {
    Some(PeriodicParams {
        frequency: Duration::from_millis(every_ms),
        num_members: NonZeroUsize::new(members)?,
    })
}

/// What foca asks of its surroundings, kept until it is taken.
#[derive(Default)]
struct Queue {
    now_ns: u64,
    timers: BTreeMap<(u64, u64), Timer<Life>>,
    timers_made: u64,
    datagrams: Vec<Datagram>,
    active: BTreeSet<NodeId>,
}

impl Queue {
    fn take_due(&mut self, now_ns: u64) -> Option<Timer<Life>> {
        let first = self.timers.first_entry()?;
        let (at_ns, _) = *first.key();
        (at_ns <= now_ns).then(|| first.remove())
    }
}

impl Runtime<Life> for Queue {
    fn notify(&mut self, notification: Notification<'_, Life>) {
        match notification {
            Notification::MemberUp(life) => {
                self.active.insert(life.node);
            }
            Notification::MemberDown(life) => {
                self.active.remove(&life.node);
            }
            Notification::Rename(..)
            | Notification::Active
            | Notification::Idle
            | Notification::Defunct
            | Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, to: Life, data: &[u8]) {
        self.datagrams.push(Datagram {
            to: to.node,
            bytes: data.to_vec(),
        });
    }

    fn submit_after(&mut self, event: Timer<Life>, after: Duration) {
        let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        let at_ns = self.now_ns.saturating_add(after_ns);
        self.timers_made += 1;
        self.timers.insert((at_ns, self.timers_made), event);
    }
}

/// Foca's headers and members as bytes.
#[derive(Clone, Copy, Debug)]
struct LifeCodec;

/// Bytes that are not what they should be.
#[derive(Debug)]
enum CodecError {
    Decode(RingBytesError),
    Full,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::Full => f.write_str("the datagram is full"),
        }
    }
}

impl core::error::Error for CodecError {}

impl From<RingBytesError> for CodecError {
    fn from(error: RingBytesError) -> Self {
        Self::Decode(error)
    }
}

impl From<Infallible> for CodecError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

pub(super) fn encode_life(out: &mut Writer, life: &Life) {
    out.u64(life.node.0);
    out.u64(life.start);
    out.u32(life.renewal);
}

pub(super) fn decode_life(from: &mut Reader<'_>) -> Result<Life, RingBytesError> {
    Ok(Life {
        node: NodeId(from.u64()?),
        start: from.u64()?,
        renewal: from.u32()?,
    })
}

/// Puts the whole or nothing.
fn put(mut buf: impl bytes::BufMut, fill: impl FnOnce(&mut Writer)) -> Result<(), CodecError> {
    let mut out = Writer::default();
    fill(&mut out);
    let bytes = out.finish();
    if bytes.len() > buf.remaining_mut() {
        return Err(CodecError::Full);
    }
    buf.put_slice(&bytes);
    Ok(())
}

fn take<T>(
    mut buf: impl bytes::Buf,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, RingBytesError>,
) -> Result<T, CodecError> {
    let chunk = buf.chunk();
    let mut reader = Reader::new(chunk);
    let taken = read(&mut reader)?;
    let used = chunk.len() - reader.rest();
    buf.advance(used);
    Ok(taken)
}

impl foca::Codec<Life> for LifeCodec {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<Life>,
        buf: impl bytes::BufMut,
    ) -> Result<(), CodecError> {
        put(buf, |out| {
            encode_life(out, &header.src);
            out.u16(header.src_incarnation);
            encode_life(out, &header.dst);
            encode_message(out, &header.message);
        })
    }

    fn decode_header(&mut self, buf: impl bytes::Buf) -> Result<Header<Life>, CodecError> {
        take(buf, |from| {
            Ok(Header {
                src: decode_life(from)?,
                src_incarnation: from.u16()?,
                dst: decode_life(from)?,
                message: decode_message(from)?,
            })
        })
    }

    fn encode_member(
        &mut self,
        member: &Member<Life>,
        buf: impl bytes::BufMut,
    ) -> Result<(), CodecError> {
        put(buf, |out| {
            encode_life(out, member.id());
            out.u16(member.incarnation());
            out.u8(match member.state() {
                State::Alive => 0,
                State::Suspect => 1,
                State::Down => 2,
            });
        })
    }

    fn decode_member(&mut self, buf: impl bytes::Buf) -> Result<Member<Life>, CodecError> {
        take(buf, |from| {
            let (life, incarnation) = (decode_life(from)?, from.u16()?);
            let state = match from.u8()? {
                0 => State::Alive,
                1 => State::Suspect,
                2 => State::Down,
                _ => return Err(RingBytesError::Field { name: "state" }),
            };
            Ok(Member::new(life, incarnation, state))
        })
    }
}

fn encode_message(out: &mut Writer, message: &Message<Life>) {
    let (kind, probe, life) = match message {
        Message::Ping(probe) => (0, *probe, None),
        Message::Ack(probe) => (1, *probe, None),
        Message::PingReq {
            target,
            probe_number,
        } => (2, *probe_number, Some(target)),
        Message::IndirectPing {
            origin,
            probe_number,
        } => (3, *probe_number, Some(origin)),
        Message::IndirectAck {
            target,
            probe_number,
        } => (4, *probe_number, Some(target)),
        Message::ForwardedAck {
            origin,
            probe_number,
        } => (5, *probe_number, Some(origin)),
        Message::Announce => (6, 0, None),
        Message::Feed => (7, 0, None),
        Message::Gossip => (8, 0, None),
        Message::Broadcast => (9, 0, None),
        Message::TurnUndead => (10, 0, None),
    };
    out.u8(kind);
    out.u8(probe);
    if let Some(life) = life {
        encode_life(out, life);
    }
}

fn decode_message(from: &mut Reader<'_>) -> Result<Message<Life>, RingBytesError> {
    let (kind, probe_number) = (from.u8()?, from.u8()?);
    Ok(match kind {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq {
            target: decode_life(from)?,
            probe_number,
        },
        3 => Message::IndirectPing {
            origin: decode_life(from)?,
            probe_number,
        },
        4 => Message::IndirectAck {
            target: decode_life(from)?,
            probe_number,
        },
        5 => Message::ForwardedAck {
            origin: decode_life(from)?,
            probe_number,
        },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        10 => Message::TurnUndead,
        _ => {
            return Err(RingBytesError::Field {
                name: "datagram kind",
            });
        }
    })
}
