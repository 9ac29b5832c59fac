//! All shards on their way up.
//!
//! Invariant: dropped halfway, or after one of them failed, those that run are stopped and waited for, so that nothing
//! of a failed start goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use gramme_core::base::ids::ShardIndex;
use gramme_core::base::time::Hlc;
use gramme_core::cluster::Boot;
use gramme_core::port::Lane;
use gramme_core::ring::Slices;
use gramme_core::shard::{PaceConfig, RecoveryReport, ShardConfig};
use gramme_core::store::cut::Tail;

use super::OpenError;
use super::agreement::{Agreement, Progress, Verdicts, agreement};
use super::config::{EdgeFactory, EngineConfig};
use super::thread::{self, Ended, Plan};
use crate::directory::{Directory, FileSource};
use crate::doorbell::Doorbell;
use crate::frontiers::Frontiers;
use crate::mailbox::{Address, Message};
use crate::state::StateKeeper;

/// How fast each shard cleans unless it is said.
const CLEAN_BYTES_PER_S: u64 = 128 << 20;

/// What shards are plugged into; nothing where they only move data.
#[derive(Default)]
pub(super) struct Around {
    pub(super) edge: Option<Arc<EdgeFactory>>,
    pub(super) state: Option<Arc<StateKeeper>>,
    /// Of a node that takes part in a cluster.
    pub(super) boot: Option<Boot>,
    /// Of files that are dealt to another number of shards.
    pub(super) redeal: Redeal,
}

/// How shards that only move data differ from those that serve.
#[derive(Clone, Copy, Default)]
pub(super) struct Redeal {
    /// Other nodes hold copies.
    pub(super) has_company: bool,
    /// What the files promised that these follow.
    pub(super) begin_after: Option<Hlc>,
}

/// Shards that have been started or will be.
pub(super) struct Starting {
    template: ShardConfig,
    pace: PaceConfig,
    spin_ns_max: u64,
    reads_in_flight_max: usize,
    pin_to_cores: bool,
    around: Around,
    mailboxes: Vec<Option<(Receiver<Message>, Arc<Doorbell>)>>,
    addresses: Vec<Address>,
    running: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Ended>>,
    frontiers: Arc<Frontiers>,
    agreements: Vec<Option<Agreement>>,
    verdicts: Verdicts,
    sender: Sender<Progress>,
    progress: Receiver<Progress>,
}

impl Starting {
    pub(super) fn new(
        config: &EngineConfig,
        slices: Slices,
        directory: &Directory,
        around: Around,
    ) -> Result<Self, OpenError> {
        let shards = u64::from(slices.shards());
        let capacity_bytes = match config.capacity_bytes {
            Some(capacity_bytes) => capacity_bytes / shards,
            None => directory
                .capacity_bytes_default(slices.shards())
                .map_err(OpenError::Directory)?,
        };
        let pace = config.pace(slices.shards())?;
        let template = ShardConfig {
            node: directory.node_id(),
            shard: ShardIndex(0),
            slices,
            tag_seed: directory.tag_seed(),
            buckets: config.all_buckets(),
            segment_bytes: directory.segment_bytes(),
            block_bytes: directory.block_bytes(),
            read_align_bytes: directory.read_align_bytes(),
            capacity_bytes,
            memory_bytes: config.memory_bytes / shards,
            commit_interval_ns: nanoseconds(config.commit_interval),
            commits_in_flight_max: config.commits_in_flight_max,
            clean_bytes_per_s: config
                .clean_bytes_per_s
                .map_or(CLEAN_BYTES_PER_S, |all_shards| all_shards / shards),
            scrub_ns: nanoseconds(config.scrub_interval),
            checkpoint_bytes: config.checkpoint_bytes,
            requests_max: config.requests_max,
            value_bytes_max: config.value_bytes_max,
            clock_drift_ms_max: nanoseconds(config.clock_drift_max) / 1_000_000,
        };
        let (mut mailboxes, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..shards {
            let doorbell = Doorbell::new().map_err(OpenError::Ring)?;
            let doorbell = Arc::new(doorbell);
            let (address, inbox) = Address::new(Arc::clone(&doorbell));
            addresses.push(address);
            mailboxes.push(Some((inbox, doorbell)));
        }
        let (sender, progress) = crossbeam_channel::unbounded();
        let (verdicts, agreements) = agreement(slices.shards());
        Ok(Self {
            template,
            pace,
            spin_ns_max: nanoseconds(config.spin_max),
            reads_in_flight_max: config.reads_in_flight_max as usize,
            pin_to_cores: config.pin_to_cores,
            around,
            mailboxes,
            addresses,
            running: Arc::new(AtomicUsize::new(0)),
            threads: Vec::new(),
            frontiers: Frontiers::new(slices.shards()),
            agreements,
            verdicts,
            sender,
            progress,
        })
    }

    /// Starts one shard's thread.
    pub(super) fn start(
        &mut self,
        shard: ShardIndex,
        core: Option<usize>,
        directory: PathBuf,
    ) -> Result<(), OpenError> {
        let mailbox = self.mailboxes.get_mut(usize::from(shard.0));
        let agreement = self.agreements.get_mut(usize::from(shard.0));
        let parts = mailbox
            .and_then(Option::take)
            .zip(agreement.and_then(Option::take));
        let Some(((inbox, doorbell), agreement)) = parts else {
            return Err(OpenError::Config(format!("shard {shard} is started twice")));
        };
        self.running.fetch_add(1, Ordering::AcqRel);
        let thread = thread::start(Plan {
            config: ShardConfig {
                shard,
                ..self.template.clone()
            },
            pace: self.pace,
            source: Box::new(FileSource::new(directory.clone())),
            frontiers: Arc::clone(&self.frontiers),
            agreement,
            directory,
            inbox,
            doorbell,
            addresses: self.addresses.clone(),
            running: Arc::clone(&self.running),
            edge: self.around.edge.clone(),
            state: self.around.state.clone(),
            is_in_cluster: self.around.boot.is_some(),
            redeal: self.around.redeal,
            boot: self
                .around
                .boot
                .clone()
                .filter(|_| shard == Lane::CONTROL_SHARD),
            core: core.filter(|_| self.pin_to_cores),
            spin_ns_max: self.spin_ns_max,
            reads_in_flight_max: self.reads_in_flight_max,
            started: self.sender.clone(),
        });
        match thread {
            Ok(thread) => {
                self.threads.push(thread);
                Ok(())
            }
            Err(error) => {
                self.running.fetch_sub(1, Ordering::AcqRel);
                Err(OpenError::Io("start a thread", error))
            }
        }
    }

    /// Waits until all of them serve.
    pub(super) fn wait(&mut self) -> Result<Vec<RecoveryReport>, OpenError> {
        // From here on only the threads hold senders: should one die silently, the wait ends.
        self.sender = crossbeam_channel::bounded(1).0;
        let shards = self.threads.len();
        let mut reports = vec![RecoveryReport::default(); shards];
        let mut tails = vec![Tail::default(); shards];
        let (mut replayed, mut cut, mut started) = (0, 0, 0);
        while started < shards {
            let progress = self.progress.recv().map_err(|_| {
                OpenError::Config("a shard ended before it had started; see the log".into())
            })?;
            match progress {
                Progress::Replayed(shard, tail) => {
                    if let Some(held) = tails.get_mut(usize::from(shard.0)) {
                        *held = tail;
                    }
                    replayed += 1;
                    if replayed == shards {
                        self.verdicts.choose(core::mem::take(&mut tails));
                    }
                }
                Progress::Cut => {
                    cut += 1;
                    if cut == shards {
                        self.verdicts.go();
                    }
                }
                Progress::Started(shard, result) => {
                    if let Some(report) = reports.get_mut(usize::from(shard.0)) {
                        *report = result?;
                    }
                    started += 1;
                }
            }
        }
        Ok(reports)
    }

    /// Hands them over.
    pub(super) fn finish(mut self) -> (Vec<Address>, Vec<JoinHandle<Ended>>) {
        (
            core::mem::take(&mut self.addresses),
            core::mem::take(&mut self.threads),
        )
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.verdicts.give_up();
        for address in &self.addresses {
            // One that has ended needs no stop; none has so many messages already.
            let _ = address.post(Message::Stop);
        }
        for thread in self.threads.drain(..) {
            // What went wrong was said when it went wrong.
            let _ = thread.join();
        }
    }
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
