//! The routing table as this node hands it to clients.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::wire::Ring;

/// Shared by every connection of the node. The table itself is read once a connection; its epoch goes with each answer.
#[derive(Debug)]
pub struct RingTable {
    epoch: AtomicU64,
    ring: RwLock<Arc<Ring>>,
}

impl RingTable {
    /// With its first table.
    pub fn new(ring: Ring) -> Self {
        Self {
            epoch: AtomicU64::new(ring.epoch),
            ring: RwLock::new(Arc::new(ring)),
        }
    }

    /// Another table; clients learn of it by the epoch of their next answer.
    pub fn replace(&self, ring: Ring) {
        let epoch = ring.epoch;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        self.epoch.store(epoch, Ordering::Release);
    }

    /// The table.
    pub fn ring(&self) -> Arc<Ring> {
        self.ring
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }
}
