//! One shard's loop: gather what is ready, step the machine, carry out what it asks, sleep when there is nothing.
//!
//! Owns the order of a turn. A turn: submit and collect the ring → completions → mailbox → due timers → effects →
//! `TurnEnd`, which closes the group commit → effects → the edge's flush → answers, messages and doorbells. The next
//! turn's submission carries all of it in one system call.
//! Never decides anything about keys, versions or durability; never blocks.
//!
//! The loop is one glommio task, and the only one until a caller moves a future of its own here. From then on it yields
//! to the others every turn while there are any, to glommio itself about every millisecond, and sleeps through glommio
//! (`sleep.rs`).

mod carry;
mod port;
mod sleep;
mod spin;
mod timers;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use crossbeam_channel::Receiver;
use glommio::io::BufferedFile;
use gramme_core::base::ids::ShardIndex;
use gramme_core::port::{Effects, Event};
use gramme_core::ring::RingView;
use gramme_core::shard::WriteState;

use crate::clock;
use crate::disk::{Disk, Done};
use crate::doorbell::Doorbell;
use crate::edge::Edge;
use crate::local::Local;
use crate::mailbox::{Address, MakeLocal, Message};
use crate::ring::{Completion, Owner, Ring};
use crate::state::StateKeeper;

use carry::answer;
pub(crate) use port::{Origin, ShardPort, Waiter};
pub(crate) use sleep::wake_file;
use sleep::{Bell, WakeRead, look_now_and_then};
use spin::Spin;
use timers::Timers;

/// Messages that one turn takes from the mailbox.
const MESSAGES_A_TURN_MAX: usize = 512;

/// Unsent answers beyond this are sent before more requests are taken.
const EFFECT_BYTES_A_TURN_MAX: usize = 4 << 20;

/// How long the loop may be busy before glommio gets a turn.
const BUSY_NS_MAX: u64 = 1_000_000;

/// How long a stop waits for the edge's open operations.
const EDGE_STOP_NS_MAX: u64 = 3_000_000_000;

/// What a shard's loop is made of.
pub(crate) struct Parts {
    pub(crate) port: ShardPort,
    pub(crate) ring: Ring,
    pub(crate) disk: Disk,
    pub(crate) edge: Option<Box<dyn Edge>>,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) doorbell: Arc<Doorbell>,
    /// The doorbell's event file.
    pub(crate) bell: OwnedFd,
    pub(crate) addresses: Vec<Address>,
    /// Where the cluster's state is kept; none where nothing of it is to last.
    pub(crate) state: Option<Arc<StateKeeper>>,
    /// Shards of this node that have not stopped.
    pub(crate) running: Arc<AtomicUsize>,
    pub(crate) spin_ns_max: u64,
    /// Called once, when the shard can take writes (or never will, for want of space).
    pub(crate) on_ready: Box<dyn FnOnce()>,
}

/// One shard on its core.
pub(crate) struct Core {
    pub(crate) port: ShardPort,
    ring: Ring,
    disk: Disk,
    edge: Option<Box<dyn Edge>>,
    inbox: Receiver<Message>,
    doorbell: Arc<Doorbell>,
    addresses: Vec<Address>,
    state: Option<Arc<StateKeeper>>,
    /// The cluster as the edge was told of it last.
    view: Option<Arc<RingView>>,
    running: Arc<AtomicUsize>,
    timers: Timers,
    spin: Spin,
    bell: Bell,

    // Buffers that are reused.
    carried_out: Effects,
    completions: Vec<Completion>,
    ended_at_once: Vec<Done>,

    // The other tasks.
    /// Whether there never was another: then the loop sleeps in its own ring.
    is_alone: bool,
    locals_new: Vec<MakeLocal>,
    locals_running: Rc<Cell<usize>>,
    /// Wakes the loop while it sleeps.
    sleeper: Option<Waker>,

    on_ready: Option<Box<dyn FnOnce()>>,
    stop: Stop,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// Asked for; the edge is waited for until this time.
    Asked {
        edge_until_ns: u64,
        is_shard_stopped: bool,
    },
    /// This shard has stopped; it answers its neighbours until they have too.
    Done,
}

/// Runs a shard until the node stops.
pub(crate) async fn run(core: Rc<RefCell<Core>>, wake: &BufferedFile) -> io::Result<()> {
    let mut read: Option<WakeRead<'_>> = None;
    let mut yielded_at_ns = clock::mono_ns();
    loop {
        let (is_busy, is_stopped) = {
            let mut core = core.borrow_mut();
            (core.turn()?, core.is_stopped())
        };
        if is_stopped {
            return Ok(());
        }
        let has_locals = spawn_locals(&core);
        let (is_alone, now_ns) = {
            let core = core.borrow();
            (core.is_alone, core.port.now.mono_ns)
        };
        if has_locals || (!is_alone && is_busy && now_ns - yielded_at_ns > BUSY_NS_MAX) {
            glommio::executor().yield_now().await;
            yielded_at_ns = now_ns;
        }
        if is_busy || core.borrow_mut().spin() {
            continue;
        }
        let alone_max = core.borrow().sleep_alone_max();
        if let Some(time_max) = alone_max {
            core.borrow_mut().sleep_alone(time_max)?;
        } else {
            sleep::sleep_beside_others(&core, wake, &mut read).await?;
        }
        yielded_at_ns = clock::mono_ns();
    }
}

/// Starts the callers' futures that have arrived; returns whether any run. glommio polls a new task at once, so the core
/// must not be borrowed here.
fn spawn_locals(core: &Rc<RefCell<Core>>) -> bool {
    let (new, running) = {
        let mut core = core.borrow_mut();
        (
            core::mem::take(&mut core.locals_new),
            Rc::clone(&core.locals_running),
        )
    };
    if !new.is_empty() && core::mem::take(&mut core.borrow_mut().is_alone) {
        glommio::spawn_local(look_now_and_then()).detach();
    }
    for make in new {
        let counted = Running::new(&running);
        let local = Local::new(Rc::clone(core));
        glommio::spawn_local(async move {
            let _counted = counted;
            make(local).await;
        })
        .detach();
    }
    running.get() > 0
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            port: parts.port,
            ring: parts.ring,
            disk: parts.disk,
            edge: parts.edge,
            inbox: parts.inbox,
            doorbell: parts.doorbell,
            addresses: parts.addresses,
            state: parts.state,
            view: None,
            running: parts.running,
            timers: Timers::default(),
            spin: Spin::new(parts.spin_ns_max),
            bell: Bell::new(parts.bell),
            carried_out: Effects::default(),
            completions: Vec::new(),
            ended_at_once: Vec::new(),
            is_alone: true,
            locals_new: Vec::new(),
            locals_running: Rc::default(),
            sleeper: None,
            on_ready: Some(parts.on_ready),
            stop: Stop::No,
        }))
    }

    /// Starts the edge.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        self.port.now = clock::now();
        // The first turn gives the machine the occasion to ask for its first files.
        self.port.is_turn_open = true;
        match &mut self.edge {
            Some(edge) => edge.start(&mut self.ring, &mut self.port),
            None => Ok(()),
        }
    }

    /// One turn; returns whether there was anything to do.
    fn turn(&mut self) -> io::Result<bool> {
        if self.ring.has_unsubmitted() || self.ring.has_pending() {
            self.ring.submit()?;
        }
        // After the ring was asked: whatever came before this time is handled in this turn, so the times of writes that
        // one client made through two shards are in the order in which it made them.
        self.port.now = clock::now();
        let began_ns = self.port.now.mono_ns;
        let mut is_busy = self.port.tell_lost();
        is_busy |= self.complete();
        is_busy |= self.take_messages();
        is_busy |= self.take_timers();
        is_busy |= self.port.has_effects() || self.port.is_turn_open;
        if !is_busy {
            return Ok(false);
        }
        self.carry_out();
        self.port.end_turn();
        self.carry_out();
        if let Some(edge) = &mut self.edge {
            edge.flush(&mut self.ring, &mut self.port);
        }
        self.port.tell_settled();
        self.port.send();
        self.port.shard.turn_took(began_ns, clock::mono_ns());
        self.say_ready();
        self.stop_further();
        Ok(true)
    }

    fn say_ready(&mut self) {
        if self.on_ready.is_none() {
            return;
        }
        let shard = &self.port.shard;
        // A full disk must not keep a shard from serving reads.
        if (shard.is_ready() || shard.status().writes != WriteState::Open)
            && let Some(on_ready) = self.on_ready.take()
        {
            on_ready();
        }
    }

    fn complete(&mut self) -> bool {
        let mut completions = core::mem::take(&mut self.completions);
        self.ring.completions(&mut completions);
        let is_any = !completions.is_empty();
        for completion in completions.drain(..) {
            if completion.owner == Owner::Disk as u8 {
                if let Some(done) = self.disk.completion(completion, &mut self.ring) {
                    self.disk_done(done);
                }
            } else if completion.owner == Owner::Edge as u8 {
                if let Some(edge) = &mut self.edge {
                    edge.completion(completion, &mut self.ring, &mut self.port);
                }
            } else if !self.bell.completion(completion.own) {
                self.timers.completion(completion.own);
            }
            self.carry_out_if_much();
        }
        self.completions = completions;
        is_any
    }

    fn disk_done(&mut self, done: Done) {
        match done {
            Done::Write { ticket, result } => {
                self.port.step(Event::WriteDone { ticket, result });
            }
            Done::Read { ticket, result } => match result {
                Ok((buffer, read_bytes)) => {
                    let result = Ok(buffer.bytes(read_bytes));
                    self.port.step(Event::ReadDone { ticket, result });
                    self.disk.give_back(buffer);
                }
                Err(error) => {
                    let result = Err(error);
                    self.port.step(Event::ReadDone { ticket, result });
                }
            },
        }
    }

    fn take_messages(&mut self) -> bool {
        for taken in 0..MESSAGES_A_TURN_MAX {
            let Ok(message) = self.inbox.try_recv() else {
                return taken > 0;
            };
            self.port.now = clock::now();
            self.message(message);
            self.carry_out_if_much();
        }
        true
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Forward {
                from,
                slot,
                request,
                bytes,
            } => self.port.forwarded(from, slot, &request, bytes),
            Message::Answer {
                slot,
                outcome,
                bytes,
            } => {
                if let Some(id) = self.port.forward_answered(slot) {
                    answer(&mut self.edge, &mut self.port, id, &outcome, &bytes);
                }
                self.port.spare(bytes);
            }
            Message::Peer {
                from,
                message,
                bytes,
            } => self.port.peer_forwarded(from, message, bytes),
            Message::Note(note) => self.take_note(note),
            Message::Edge(message) => {
                if let Some(edge) = &mut self.edge {
                    edge.message(message, &mut self.ring, &mut self.port);
                }
            }
            Message::Run(make) => self.locals_new.push(make),
            Message::Calls(batch) => self.port.called(batch),
            Message::Prepared { ticket, result } => {
                let result = result.map(|prepared| self.disk.prepared(prepared));
                self.port.step(Event::PrepareDone { ticket, result });
            }
            Message::Status(to) => {
                // Whoever asked may have gone.
                let _ = to.send(self.port.shard.status());
            }
            Message::Stop => self.begin_stop(),
            Message::Wake => {}
        }
    }

    fn take_timers(&mut self) -> bool {
        let now_ns = self.port.now.mono_ns;
        let mut is_any = false;
        if self
            .port
            .shard
            .next_deadline_ns()
            .is_some_and(|at_ns| at_ns <= now_ns)
        {
            self.port.step(Event::Tick);
            is_any = true;
        }
        if self.port.wake_at_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            self.port.wake_at_ns = None;
            is_any = true;
        }
        if let Stop::Asked { edge_until_ns, .. } = self.stop {
            is_any |= edge_until_ns <= now_ns;
        }
        is_any
    }

    /// Counts one more local future, as long as what is returned lives.
    pub(crate) fn count_local(&self) -> Running {
        Running::new(&self.locals_running)
    }

    /// Has the loop take a turn, if it sleeps.
    pub(crate) fn wake_loop(&mut self) {
        if let Some(sleeper) = self.sleeper.take() {
            sleeper.wake();
        }
    }

    /// This shard.
    pub(crate) const fn index(&self) -> ShardIndex {
        self.port.index
    }

    fn begin_stop(&mut self) {
        if self.stop != Stop::No {
            return;
        }
        self.stop = Stop::Asked {
            edge_until_ns: self.port.now.mono_ns + EDGE_STOP_NS_MAX,
            is_shard_stopped: false,
        };
        // What the machine has to say to other nodes leaves before the connections end.
        self.port.step(Event::Stop);
        self.carry_out();
        if let Some(edge) = &mut self.edge {
            edge.stop(&mut self.ring, &mut self.port);
        }
    }

    fn stop_further(&mut self) {
        let Stop::Asked {
            edge_until_ns,
            is_shard_stopped: true,
        } = self.stop
        else {
            return;
        };
        let is_edge_stopped = self.edge.as_ref().is_none_or(|edge| edge.is_stopped());
        let is_edge_late = edge_until_ns <= self.port.now.mono_ns;
        if !self.disk.is_idle() || !(is_edge_stopped || is_edge_late) {
            return;
        }
        if !is_edge_stopped {
            tracing::warn!(shard = %self.port.index, "connections did not end in time; they are dropped");
        }
        self.stop = Stop::Done;
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            for address in &self.addresses {
                // One that is gone, or that has messages to take anyway, looks by itself.
                let _ = address.post(Message::Wake);
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop == Stop::Done && self.running.load(Ordering::Acquire) == 0
    }

    fn has_work(&mut self) -> bool {
        !self.inbox.is_empty()
            || self.ring.has_unsubmitted()
            || self.ring.has_pending()
            || self.port.is_turn_open
            || self.port.has_effects()
            || !self.port.peers_lost.is_empty()
    }

    /// Looks on for a moment, while that pays; returns whether there is something to do.
    fn spin(&mut self) -> bool {
        if self.has_work() {
            return true;
        }
        if self.port.outboxes.is_blocked() {
            // A neighbour's mailbox is full: it is behind, and may need this core.
            std::thread::yield_now();
            self.port.send();
            return true;
        }
        let spin_ns = self.spin.spin_ns();
        if spin_ns == 0 {
            return false;
        }
        let until_ns = clock::mono_ns() + spin_ns;
        let has_paid = loop {
            if self.has_work() {
                break true;
            }
            if clock::mono_ns() >= until_ns {
                break false;
            }
            core::hint::spin_loop();
        };
        self.spin.spun(has_paid);
        has_paid
    }
}

/// Counts a local future until it ends, also when it panics.
pub(crate) struct Running(Rc<Cell<usize>>);

impl Running {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
