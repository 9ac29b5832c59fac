//! The client as a state machine: bytes and calls in, bytes and outcomes out.
//!
//! Owns the requests on their way (slots), the connections' buffers, the routing table, deadlines and retries. Never
//! reads a clock, a random source or a socket: times and a seed are handed in, so one seed replays one behaviour.
//! A front asks [`Machine::next_action`], [`Machine::take_outgoing`] and [`Machine::next_done`] after every input.
//!
//! Invariants:
//! - every call that was submitted ends exactly once, at its deadline at the latest;
//! - an answer to an earlier try of a slot is recognised by its generation and dropped;
//! - a write that may have reached a server ends as done, or in doubt, never as "not applied" but on the server's word
//!   for each of its tries.

mod budget;
mod link;
mod receive;
mod routes;
mod slot;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use gramme_core::base::time::Now;
use gramme_core::version::WriteId;

use super::{Call, ClientError, ClientOptions, Outcome};
use crate::wire::{self, Effect, Hello, Message};
use budget::Budget;
use link::{Link, LinkState};
use routes::Routes;
use slot::{Slot, SlotState};

/// Names one connection of this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub usize);

/// Names one submitted call: the slot and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// What the front must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect, then [`Machine::connected`] or [`Machine::lost`].
    Connect {
        /// As this link.
        link: LinkId,
        /// `host:port`.
        address: String,
    },
    /// Close the connection; no [`Machine::lost`] is expected.
    Close {
        /// This one.
        link: LinkId,
    },
}

/// The state machine.
#[derive(Debug)]
pub struct Machine {
    options: ClientOptions,
    client: u64,
    next_sequence: u64,
    rng: fastrand::Rng,
    budget: Budget,
    routes: Routes,
    links: Vec<Link>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    // Times at which slots want attention; entries of earlier generations or states are dropped when they come up.
    timers: BinaryHeap<Reverse<(u64, u32, u32)>>,
    actions: VecDeque<Action>,
    done: VecDeque<(CallId, Result<Outcome, ClientError>)>,
}

/// A request id that no slot has: of hellos.
const HELLO_ID: u64 = u64::MAX;

impl Machine {
    /// A client that begins at these `host:port`s. `seed` is random: it names the client in write ids and spreads its
    /// retries.
    pub fn new(seeds: &[String], options: ClientOptions, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut machine = Self {
            budget: Budget::new(options.retry_percent),
            client: rng.u64(..),
            options,
            next_sequence: 0,
            rng,
            routes: Routes::new(seeds),
            links: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            actions: VecDeque::new(),
            done: VecDeque::new(),
        };
        if let Some(address) = seeds.first() {
            let link = machine.link_of(address);
            // When that is it is not told; and there is nobody else to be asked.
            machine.connect(u64::MAX, link);
        }
        machine
    }

    /// Takes a call.
    ///
    /// # Errors
    /// [`ClientError::Usage`] and [`ClientError::TooManyInFlight`], at once.
    pub fn submit(&mut self, now: Now, mut call: Call) -> Result<CallId, ClientError> {
        call.check()?;
        if call.is_write() && call.write_id.is_none() {
            self.next_sequence += 1;
            call.write_id = Some(WriteId {
                client: self.client,
                sequence: self.next_sequence,
            });
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
                if index >= self.options.in_flight_max {
                    return Err(ClientError::TooManyInFlight);
                }
                self.slots.push(Slot::default());
                index
            }
        };
        self.budget.request();
        let deadline_ns = now.mono_ns.saturating_add(nanos(call.options.deadline));
        let slot = &mut self.slots[index as usize];
        slot.begin(call, deadline_ns);
        let id = CallId {
            slot: index,
            generation: slot.generation,
        };
        self.timers
            .push(Reverse((deadline_ns, index, id.generation)));
        self.dispatch(now, index);
        Ok(id)
    }

    /// The connection is there.
    pub fn connected(&mut self, now: Now, link: LinkId) {
        let Some(entry) = self.links.get_mut(link.0) else {
            return;
        };
        if entry.state != LinkState::Connecting {
            return;
        }
        entry.open();
        let hello = Message::Hello(Hello {
            versions: wire::Versions::OWN,
            client: self.client,
        });
        wire::encode(&mut entry.outgoing, HELLO_ID, entry.checksums, &hello);
        self.send_waiting(now);
    }

    /// The connection could not be made, or is gone; `why` for people.
    pub fn lost(&mut self, now: Now, link: LinkId, why: &str) {
        let Some(entry) = self.links.get_mut(link.0) else {
            return;
        };
        if !matches!(entry.state, LinkState::Connecting | LinkState::Open) {
            return;
        }
        entry.fail(now.mono_ns, why);
        let is_affected = |slot: &Slot| match slot.state {
            SlotState::Sent(on) | SlotState::Queued(on) => on == link,
            SlotState::Free | SlotState::Waiting { .. } => false,
        };
        let affected: Vec<u32> = (0..)
            .zip(&self.slots)
            .filter(|(_, slot)| is_affected(slot))
            .map(|(index, _)| index)
            .collect();
        for index in affected {
            let was_sent = matches!(self.slots[index as usize].state, SlotState::Sent(_));
            let error = ClientError::Disconnected {
                effect: Effect::NotApplied,
                message: why.to_string(),
            };
            self.failed(now, index, error, was_sent, Duration::ZERO);
        }
        if self.slots.iter().any(|slot| slot.state != SlotState::Free) {
            self.send_waiting(now);
        }
    }

    /// The time has come that [`Self::next_deadline_ns`] told.
    pub fn tick(&mut self, now: Now) {
        while let Some(Reverse((at_ns, index, generation))) = self.timers.peek().copied() {
            if at_ns > now.mono_ns {
                break;
            }
            self.timers.pop();
            let slot = &self.slots[index as usize];
            if slot.generation != generation {
                continue;
            }
            match slot.state {
                SlotState::Free => {}
                _ if slot.deadline_ns <= now.mono_ns => self.expire(now, index),
                SlotState::Waiting { until_ns } if until_ns <= now.mono_ns => {
                    self.dispatch(now, index);
                }
                SlotState::Sent(link) if self.is_silent(now, index, link) => {
                    self.ask_another(now, index, link);
                }
                SlotState::Waiting { .. } | SlotState::Sent(_) | SlotState::Queued(_) => {}
            }
        }
    }

    /// When it wants a [`Self::tick`].
    pub fn next_deadline_ns(&mut self) -> Option<u64> {
        while let Some(Reverse((at_ns, index, generation))) = self.timers.peek() {
            if self.slots[*index as usize].generation == *generation {
                return Some(*at_ns);
            }
            self.timers.pop();
        }
        None
    }

    /// The next thing that the front must do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether [`Self::next_action`] has one.
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// The next call that has ended.
    pub fn next_done(&mut self) -> Option<(CallId, Result<Outcome, ClientError>)> {
        self.done.pop_front()
    }

    /// Moves the bytes that the connection must send, to the end of `into`; returns whether there were any.
    pub fn take_outgoing(&mut self, link: LinkId, into: &mut Vec<u8>) -> bool {
        let Some(entry) = self.links.get_mut(link.0) else {
            return false;
        };
        let is_some = !entry.outgoing.is_empty();
        into.append(&mut entry.outgoing);
        is_some
    }

    /// The connections with bytes to send.
    pub fn links_with_outgoing(&self) -> impl Iterator<Item = LinkId> + '_ {
        (0..)
            .zip(&self.links)
            .filter(|(_, link)| link.state == LinkState::Open && !link.outgoing.is_empty())
            .map(|(index, _)| LinkId(index))
    }

    /// The connections on which answers are awaited, each once; the oldest call's last.
    pub fn links_awaited(&self) -> Vec<LinkId> {
        let mut links = Vec::new();
        for slot in self.slots.iter().rev() {
            if let SlotState::Sent(link) = slot.state {
                links.retain(|known| *known != link);
                links.push(link);
            }
        }
        links
    }

    /// Calls on their way.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    // ---- routing ----

    fn link_of(&mut self, address: &str) -> LinkId {
        if let Some(index) = self.links.iter().position(|link| link.address == address) {
            return LinkId(index);
        }
        let checksums = self.options.checksums || !routes::is_loopback(address);
        self.links.push(Link::new(address, checksums));
        LinkId(self.links.len() - 1)
    }

    /// Has a slot's call wait for a connection that is made.
    fn queue(&mut self, now: Now, index: u32, link: LinkId) {
        self.slots[index as usize].state = SlotState::Queued(link);
        self.connect(now.mono_ns, link);
    }

    fn connect(&mut self, now_ns: u64, link: LinkId) {
        let entry = &mut self.links[link.0];
        if entry.state == LinkState::Idle {
            entry.state = LinkState::Connecting;
            entry.connecting_since_ns = now_ns;
            self.actions.push_back(Action::Connect {
                link,
                address: entry.address.clone(),
            });
        }
    }

    /// Sends a slot's call, or queues it for a connection that is being made, or lets it wait for one.
    fn dispatch(&mut self, now: Now, index: u32) {
        let slot = &self.slots[index as usize];
        let (token, failures) = (slot.token, slot.failures);
        // A try that failed goes on with the next node that answers for the key.
        let addresses = self.routes.addresses(token, failures);
        let mut unreached = None;
        // One that is connected and silent is better than none.
        for is_last_resort in [false, true] {
            for address in &addresses {
                let link = self.link_of(address);
                let entry = &mut self.links[link.0];
                let is_open = entry.state == LinkState::Open;
                if entry.retry_at_ns > now.mono_ns && !(is_last_resort && is_open) {
                    continue;
                }
                if is_open {
                    self.send(now, index, link);
                    return;
                }
                // A machine without power refuses nothing: no call waits for what could not be reached the last time, as
                // long as another node may do it.
                if entry.failure.is_some() {
                    if entry.probe_at_ns <= now.mono_ns {
                        self.connect(now.mono_ns, link);
                    }
                    unreached.get_or_insert(link);
                    continue;
                }
                return self.queue(now, index, link);
            }
            if let Some(link) = unreached {
                return self.queue(now, index, link);
            }
        }
        // Every node was unreachable a moment ago.
        let why = self.links.iter().find_map(|link| link.failure.clone());
        let error = ClientError::Disconnected {
            effect: Effect::NotApplied,
            message: why.unwrap_or_else(|| "no address was given".into()),
        };
        self.failed(now, index, error, false, Duration::ZERO);
    }

    fn send(&mut self, now: Now, index: u32, link: LinkId) {
        let (slot, entry) = (&mut self.slots[index as usize], &mut self.links[link.0]);
        let Some(call) = &slot.call else { return };
        let left = Duration::from_nanos(slot.deadline_ns.saturating_sub(now.mono_ns));
        let id = u64::from(slot.generation) << 32 | u64::from(index);
        wire::encode(
            &mut entry.outgoing,
            id,
            entry.checksums,
            &call.message(left),
        );
        slot.state = SlotState::Sent(link);
        slot.sent_ns = now.mono_ns;
        entry.unheard_since_ns.get_or_insert(now.mono_ns);
        slot.tries += 1;
        let patient_until_ns = now.mono_ns + nanos(self.options.patience);
        if patient_until_ns < slot.deadline_ns {
            self.timers
                .push(Reverse((patient_until_ns, index, slot.generation)));
        }
    }

    /// Whether a node has said nothing at all since it was asked, for longer than one waits for that.
    fn is_silent(&self, now: Now, index: u32, link: LinkId) -> bool {
        let sent_ns = self.slots[index as usize].sent_ns;
        sent_ns + nanos(self.options.patience) <= now.mono_ns
            && self.links[link.0].heard_ns < sent_ns
    }

    /// Asks the next node, where that is allowed and there is budget for it; the silent one is left alone for a while. Its
    /// connection stays: whichever answer comes first counts, and requests that must not be repeated wait on it.
    fn ask_another(&mut self, now: Now, index: u32, silent: LinkId) {
        let slot = &mut self.slots[index as usize];
        let Some(call) = &slot.call else { return };
        if !call.is_repeatable()
            || slot.failures + 1 >= self.options.tries_max
            || !self.budget.take_retry()
        {
            return;
        }
        slot.in_doubt |= call.is_write();
        slot.failures += 1;
        self.links[silent.0].retry_at_ns = now.mono_ns + nanos(self.options.patience);
        self.dispatch(now, index);
    }

    /// Sends what waited for a connection that is open now, and routes anew what waited for one that is not.
    fn send_waiting(&mut self, now: Now) {
        for index in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            if let SlotState::Queued(link) = self.slots[index as usize].state {
                let entry = &self.links[link.0];
                match entry.state {
                    LinkState::Open => self.send(now, index, link),
                    LinkState::Connecting if entry.failure.is_none() => {}
                    LinkState::Connecting | LinkState::Idle => self.dispatch(now, index),
                }
            }
        }
    }

    // ---- ends ----

    /// A try has failed. `in_doubt`: it may have been applied. Retries where that is allowed, else ends the call.
    fn failed(&mut self, now: Now, index: u32, error: ClientError, in_doubt: bool, wait: Duration) {
        let slot = &mut self.slots[index as usize];
        let Some(call) = &slot.call else { return };
        slot.in_doubt |= in_doubt && call.is_write();
        let may_repeat = !slot.in_doubt || call.is_repeatable();
        slot.failures += 1;
        let backoff = nanos(self.options.backoff) << slot.failures.min(10);
        let jittered_ns = backoff / 2 + self.rng.u64(0..=backoff / 2);
        let until_ns = now.mono_ns + jittered_ns.max(nanos(wait));
        let has_time = until_ns < slot.deadline_ns;
        if may_repeat
            && has_time
            && slot.failures < self.options.tries_max
            && self.budget.take_retry()
        {
            slot.state = SlotState::Waiting { until_ns };
            self.timers
                .push(Reverse((until_ns, index, slot.generation)));
            return;
        }
        let effect = slot.effect();
        self.finish(index, Err(error.with_effect(effect)));
    }

    fn expire(&mut self, now: Now, index: u32) {
        let slot = &mut self.slots[index as usize];
        let is_sent = matches!(slot.state, SlotState::Sent(_));
        slot.in_doubt |= is_sent && slot.call.as_ref().is_some_and(Call::is_write);
        let effect = slot.effect();
        let (state, sent_ns) = (slot.state, slot.sent_ns);
        self.finish(index, Err(ClientError::Deadline { effect }));
        // A connection that has been silent since the call was sent may be dead without anybody saying so.
        if let SlotState::Sent(link) = state
            && self.links[link.0].heard_ns < sent_ns
            && self.links[link.0].state == LinkState::Open
        {
            self.silent_at_deadline(now, link);
        }
    }

    /// Closes a connection that said nothing until a call's deadline. While others wait on it, who may have more time, it
    /// is only left alone for a moment, until it has been silent as long as one waits for a node.
    fn silent_at_deadline(&mut self, now: Now, link: LinkId) {
        let waits = |slot: &Slot| slot.state == SlotState::Sent(link);
        let entry = &mut self.links[link.0];
        if self.slots.iter().any(waits) && !entry.is_silent_for(now.mono_ns, self.options.patience)
        {
            entry.leave_alone(now.mono_ns);
            return;
        }
        self.actions.push_back(Action::Close { link });
        self.lost(now, link, "the connection was silent");
    }

    fn finish(&mut self, index: u32, result: Result<Outcome, ClientError>) {
        let slot = &mut self.slots[index as usize];
        let id = CallId {
            slot: index,
            generation: slot.generation,
        };
        slot.end();
        self.free.push(index);
        self.done.push_back((id, result));
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
