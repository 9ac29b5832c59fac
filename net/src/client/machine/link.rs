//! One connection's state and buffers.

use std::time::Duration;

/// How long a node that could not be reached is left alone.
const RETRY_AFTER_NS: u64 = 100_000_000;

/// A connection that could not be made is tried again after so many times what trying took: who waits for it itself, as the
/// blocking client's thread does, spends a twentieth of its time on a machine that is gone.
const PROBE_EACH: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    Idle,
    Connecting,
    Open,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: String,
    pub(super) checksums: bool,
    pub(super) state: LinkState,
    /// Others are asked before this time, after a failure or a long silence.
    pub(super) retry_at_ns: u64,
    /// When it was begun to be connected.
    pub(super) connecting_since_ns: u64,
    /// It is not tried again before this time while another node is connected.
    pub(super) probe_at_ns: u64,
    /// What the last failure said.
    pub(super) failure: Option<String>,
    /// The newest epoch that a table was asked for of.
    pub(super) asked_epoch: u64,
    /// When bytes last came.
    pub(super) heard_ns: u64,
    /// When the first call was sent behind which nothing came.
    pub(super) unheard_since_ns: Option<u64>,
    pub(super) outgoing: Vec<u8>,
    /// The beginning of a frame that is not there whole.
    pub(super) incoming: Vec<u8>,
}

impl Link {
    pub(super) fn new(address: &str, checksums: bool) -> Self {
        Self {
            address: address.to_string(),
            checksums,
            state: LinkState::Idle,
            retry_at_ns: 0,
            connecting_since_ns: 0,
            probe_at_ns: 0,
            failure: None,
            asked_epoch: 0,
            heard_ns: 0,
            unheard_since_ns: None,
            outgoing: Vec::new(),
            incoming: Vec::new(),
        }
    }

    pub(super) fn open(&mut self) {
        self.state = LinkState::Open;
        self.asked_epoch = 0;
        self.failure = None;
        self.retry_at_ns = 0;
        self.unheard_since_ns = None;
        self.outgoing.clear();
        self.incoming.clear();
    }

    /// Others are asked first for a moment.
    pub(super) fn leave_alone(&mut self, now_ns: u64) {
        self.retry_at_ns = now_ns + RETRY_AFTER_NS;
    }

    /// Whether nothing has come for so long though something was asked.
    pub(super) fn is_silent_for(&self, now_ns: u64, patience: Duration) -> bool {
        let silent = |since_ns| Duration::from_nanos(now_ns.saturating_sub(since_ns)) >= patience;
        self.unheard_since_ns.is_some_and(silent)
    }

    pub(super) fn fail(&mut self, now_ns: u64, why: &str) {
        self.leave_alone(now_ns);
        self.probe_at_ns = self.retry_at_ns;
        if self.state == LinkState::Connecting {
            let took_ns = now_ns.saturating_sub(self.connecting_since_ns);
            self.probe_at_ns += took_ns.saturating_mul(PROBE_EACH);
        }
        self.state = LinkState::Idle;
        let hint = crate::tls::hint(&self.incoming);
        self.failure = Some(format!("{}: {why}{hint}", self.address));
        self.outgoing.clear();
        self.incoming.clear();
    }
}
