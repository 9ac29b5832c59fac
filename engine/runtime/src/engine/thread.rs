//! One shard's thread: recovery, the executor, the loop, and its end.
//!
//! Owns the order in which a shard comes up: its log is recovered before anything can reach it, its edge starts before
//! it says that it runs, and it says so only when it can take writes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use glommio::{LocalExecutorBuilder, Placement};
use gramme_core::cluster::Boot;
use gramme_core::port::{Effects, Source};
use gramme_core::shard::{PaceConfig, Shard, ShardConfig};

use super::OpenError;
use super::agreement::{Agreement, Progress};
use super::starting::Redeal;
use crate::clock;
use crate::disk::{Disk, DiskLimits};
use crate::doorbell::Doorbell;
use crate::edge::Edge;
use crate::executor::{self, Core, Parts, ShardPort};
use crate::frontiers::{Frontier, Frontiers};
use crate::mailbox::{Address, Message, Outboxes};
use crate::ring::Ring;
use crate::state::StateKeeper;

/// Submission slots of a shard's ring; more operations wait in the program.
const RING_ENTRIES: u32 = 1024;

/// Memory that glommio may register for its own files; the shard's go through its own ring.
const GLOMMIO_IO_BYTES: usize = 1 << 20;

/// What a shard's thread needs.
pub(super) struct Plan {
    pub(super) config: ShardConfig,
    pub(super) pace: PaceConfig,
    pub(super) directory: PathBuf,
    pub(super) source: Box<dyn Source + Send>,
    pub(super) frontiers: Arc<Frontiers>,
    pub(super) agreement: Agreement,
    pub(super) inbox: Receiver<Message>,
    pub(super) doorbell: Arc<Doorbell>,
    pub(super) addresses: Vec<Address>,
    pub(super) running: Arc<AtomicUsize>,
    pub(super) edge: Option<Arc<super::config::EdgeFactory>>,
    pub(super) state: Option<Arc<StateKeeper>>,
    pub(super) is_in_cluster: bool,
    pub(super) redeal: Redeal,
    /// For the shard with the control role.
    pub(super) boot: Option<Boot>,
    pub(super) core: Option<usize>,
    pub(super) spin_ns_max: u64,
    pub(super) reads_in_flight_max: usize,
    pub(super) started: Sender<Progress>,
}

/// How a shard's thread ended.
pub(super) type Ended = Result<(), String>;

/// Starts it.
pub(super) fn start(plan: Plan) -> std::io::Result<JoinHandle<Ended>> {
    let name = format!("gramme-{}", plan.config.shard.0);
    std::thread::Builder::new().name(name).spawn(move || {
        let running = Arc::clone(&plan.running);
        let addresses = plan.addresses.clone();
        let shard = plan.config.shard;
        let frontiers = Arc::clone(&plan.frontiers);
        let ended = run(plan);
        frontiers.leave(shard);
        if let Err(what) = &ended {
            tracing::error!(%shard, "the shard has ended: {what}");
            // The others must not wait for its stop.
            running.fetch_sub(1, Ordering::AcqRel);
            for address in &addresses {
                let _ = address.post(Message::Wake);
            }
        }
        ended
    })
}

fn run(plan: Plan) -> Ended {
    let (shard, started) = (plan.config.shard, plan.started.clone());
    let fail = |error: OpenError| {
        let what = error.to_string();
        // Whoever opens the engine waits for this, or has given up already.
        let _ = started.send(Progress::Started(shard, Err(error)));
        what
    };
    let mut source = plan.source;
    let mut open = || {
        Shard::open(plan.config.clone(), clock::now(), source.as_mut())
            .map_err(|error| OpenError::Shard(shard, error))
    };
    let (machine, report) = open().map_err(fail)?;
    let tail = report.tail.clone();
    let is_cut = plan
        .agreement
        .reach((shard, tail), &started, &plan.directory);
    let (mut machine, report) = if is_cut.map_err(fail)? {
        drop(machine);
        open().map_err(fail)?
    } else {
        (machine, report)
    };
    drop(source);
    machine.set_pace(plan.pace);
    let mut effects = Effects::default();
    if plan.is_in_cluster {
        machine.await_view();
    }
    if plan.redeal.has_company {
        machine.keep_for_others();
    }
    if let Some(promised) = plan.redeal.begin_after {
        machine.begin_after(promised);
    }
    if let Some(boot) = plan.boot {
        machine
            .take_control(boot, clock::now(), &mut effects)
            .map_err(|error| fail(OpenError::Cluster(error)))?;
    }
    let placement = plan.core.map_or(Placement::Unbound, Placement::Fixed);
    let glommio = LocalExecutorBuilder::new(placement)
        .io_memory(GLOMMIO_IO_BYTES)
        .make()
        .map_err(|error| fail(OpenError::Executor(shard, error.to_string())))?;

    let own_address = plan.addresses.get(usize::from(shard.0)).cloned();
    let own_address = own_address.ok_or("a shard without an address")?;
    let edge: Option<Box<dyn Edge>> = plan.edge.map(|make| make(shard));
    let (disk, files) = Disk::new(
        plan.directory,
        DiskLimits {
            read_align_bytes: plan.config.read_align_bytes as usize,
            reads_in_flight_max: plan.reads_in_flight_max,
        },
        format!("gramme-files-{}", shard.0),
        own_address,
    )
    .map_err(|error| fail(OpenError::Io("start the helper thread for files", error)))?;
    let wake = plan.doorbell.event();
    let ring = wake.and_then(|wake| Ring::with_wake(RING_ENTRIES, wake));
    let ring = ring.map_err(|error| fail(OpenError::Ring(error)))?;
    let outboxes = Outboxes::new(&plan.addresses);
    let event = || plan.doorbell.event().map_err(OpenError::Ring);
    let (wake, bell) = (event().map_err(fail)?, event().map_err(fail)?);

    let core = Core::new(Parts {
        port: ShardPort::new(
            plan.config.slices,
            (machine, Frontier::new(plan.frontiers, shard)),
            effects,
            outboxes,
        ),
        ring,
        disk,
        edge,
        inbox: plan.inbox,
        bell,
        doorbell: plan.doorbell,
        addresses: plan.addresses,
        state: plan.state,
        running: plan.running,
        spin_ns_max: plan.spin_ns_max,
        on_ready: Box::new(move || {
            // Whoever opens the engine may have given up.
            let _ = plan.started.send(Progress::Started(shard, Ok(report)));
        }),
    });
    core.borrow_mut()
        .start()
        .map_err(|error| fail(OpenError::Edge(shard, error)))?;

    // Whatever happens to the loop, what the kernel may still write to outlives it.
    let kept = Rc::clone(&core);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        glommio.run(async move {
            let wake = executor::wake_file(wake);
            executor::run(core, &wake).await
        })
    }));
    match ended {
        Ok(Ok(())) => {
            // Its tasks go first, they hold the shard; then the shard, which lets the helper thread end.
            drop(glommio);
            drop(kept);
            let _ = files.join();
            Ok(())
        }
        Ok(Err(error)) => {
            core::mem::forget(kept);
            Err(format!(
                "its ring failed: {error}; this is the system's or a bug; start the node again"
            ))
        }
        Err(panic) => {
            core::mem::forget(kept);
            let what = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(format!(
                "a broken assumption: {what}; report this, and start the node again"
            ))
        }
    }
}
