//! One connection's state and buffers.

/// How long a node that could not be reached is left alone.
const RETRY_AFTER_NS: u64 = 100_000_000;

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
    /// What the last failure said.
    pub(super) failure: Option<String>,
    /// The newest epoch that a table was asked for of.
    pub(super) asked_epoch: u64,
    /// When bytes last came.
    pub(super) heard_ns: u64,
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
            failure: None,
            asked_epoch: 0,
            heard_ns: 0,
            outgoing: Vec::new(),
            incoming: Vec::new(),
        }
    }

    pub(super) fn open(&mut self) {
        self.state = LinkState::Open;
        self.asked_epoch = 0;
        self.failure = None;
        self.retry_at_ns = 0;
        self.outgoing.clear();
        self.incoming.clear();
    }

    pub(super) fn fail(&mut self, now_ns: u64, why: &str) {
        self.state = LinkState::Idle;
        self.retry_at_ns = now_ns + RETRY_AFTER_NS;
        let hint = crate::tls::hint(&self.incoming);
        self.failure = Some(format!("{}: {why}{hint}", self.address));
        self.outgoing.clear();
        self.incoming.clear();
    }
}
