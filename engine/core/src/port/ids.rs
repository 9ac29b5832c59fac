//! How the coordinator names its questions: to its own replica, by a request's id; to peers, by a call's.

use crate::base::slots::SlotId;
use crate::port::{CallId, RequestId};

/// Ids of requests that the shard itself makes have this bit; edges choose theirs below it.
const INTERNAL: u64 = 1 << 63;

/// Calls of the background have this bit; the coordinator's lie below it.
const UPKEEP_CALL: u64 = 1 << 62;
/// The greatest sequence of a call of the background; it begins anew behind it.
const UPKEEP_SEQUENCE_MAX: u16 = (1 << 14) - 1;

/// What one of the shard's own requests is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// The slot's own write or read on this shard's replica.
    Slot = 0,
    /// Nobody waits for it (read repair here, a hint).
    Nobody = 1,
    /// The background's.
    Upkeep = 2,
}

/// A request of the shard to its own replica.
pub(crate) fn internal(purpose: Purpose, slot: SlotId) -> RequestId {
    let (index, generation) = (u64::from(slot.index), u64::from(slot.generation));
    RequestId(INTERNAL | (purpose as u64) << 56 | generation << 32 | index)
}

/// Whose it is, when it is one of the shard's own.
pub(crate) fn purpose_of(id: RequestId) -> Option<(Purpose, SlotId)> {
    if id.0 & INTERNAL == 0 {
        return None;
    }
    let purpose = match id.0 >> 56 & 0x7f {
        0 => Purpose::Slot,
        1 => Purpose::Nobody,
        _ => Purpose::Upkeep,
    };
    let slot = SlotId {
        index: id.0 as u32,
        generation: (id.0 >> 32) as u16,
    };
    Some((purpose, slot))
}

/// A question of the background; of those of one slot the sequence tells a late answer to a former one apart.
pub(crate) fn upkeep_call(slot: SlotId, sequence: u16) -> CallId {
    let sequence = u64::from(sequence & UPKEEP_SEQUENCE_MAX);
    CallId(UPKEEP_CALL | sequence << 48 | u64::from(slot.generation) << 32 | u64::from(slot.index))
}

/// Which slot of the background asked, and its sequence, when it did.
pub(crate) fn of_upkeep_call(call: CallId) -> Option<(SlotId, u16)> {
    let is_its = call.0 >> 62 == UPKEEP_CALL >> 62;
    let slot = SlotId {
        index: call.0 as u32,
        generation: (call.0 >> 32) as u16,
    };
    is_its.then_some((slot, (call.0 >> 48) as u16 & UPKEEP_SEQUENCE_MAX))
}

/// A question to the replica with this number within its slot.
pub(crate) fn call(slot: SlotId, replica: u16) -> CallId {
    let (index, generation) = (u64::from(slot.index), u64::from(slot.generation));
    CallId(u64::from(replica) << 48 | generation << 32 | index)
}

/// Which slot and replica a call was.
pub(crate) fn of_call(call: CallId) -> (SlotId, u16) {
    let slot = SlotId {
        index: call.0 as u32,
        generation: (call.0 >> 32) as u16,
    };
    (slot, (call.0 >> 48) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_survives_its_way_through_both_kinds_of_id() {
        let slot = SlotId {
            index: u32::MAX,
            generation: u16::MAX,
        };
        for purpose in [Purpose::Slot, Purpose::Nobody, Purpose::Upkeep] {
            assert_eq!(purpose_of(internal(purpose, slot)), Some((purpose, slot)));
        }
        assert_eq!(of_call(call(slot, 9)), (slot, 9));
        assert_eq!(
            of_upkeep_call(upkeep_call(slot, 16383)),
            Some((slot, 16383))
        );
        assert_eq!(of_upkeep_call(call(slot, 255)), None);
        assert_eq!(of_upkeep_call(CallId(u64::MAX)), None);
        assert_eq!(purpose_of(RequestId(3 << 56)), None);
    }
}
