//! What must hold of a history and of what the cluster shows at its end; a file each. A check returns its violations.

pub mod acknowledged;
pub mod converged;
pub mod denied;
pub mod latest;
pub mod quorum;
pub mod resurrected;
pub mod ring;
pub mod siblings;

use std::collections::{BTreeMap, BTreeSet};

use super::history::WriteNumber;

/// What each node showed of each key at the end: the writes of its values.
pub type Shown = BTreeMap<(usize, usize), BTreeSet<WriteNumber>>;
