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

/// A slot in the lower 48 bits of an id.
const fn slot_bits(slot: SlotId) -> u64 {
    (slot.generation as u64) << 32 | slot.index as u64
}

const fn slot_of(bits: u64) -> SlotId {
    SlotId {
        index: bits as u32,
        generation: (bits >> 32) as u16,
    }
}

/// A request of the shard to its own replica.
pub(crate) const fn internal(purpose: Purpose, slot: SlotId) -> RequestId {
    RequestId(INTERNAL | (purpose as u64) << 56 | slot_bits(slot))
}

/// The id of all requests whose answers nobody waits for.
pub(crate) const NOBODY: RequestId = internal(Purpose::Nobody, slot_of(0));

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
    Some((purpose, slot_of(id.0)))
}

/// A question of the background; of those of one slot the sequence tells a late answer to a former one apart.
pub(crate) fn upkeep_call(slot: SlotId, sequence: u16) -> CallId {
    let sequence = u64::from(sequence & UPKEEP_SEQUENCE_MAX);
    CallId(UPKEEP_CALL | sequence << 48 | slot_bits(slot))
}

/// Which slot of the background asked, and its sequence, when it did.
pub(crate) fn of_upkeep_call(call: CallId) -> Option<(SlotId, u16)> {
    let is_its = call.0 >> 62 == UPKEEP_CALL >> 62;
    let sequence = (call.0 >> 48) as u16 & UPKEEP_SEQUENCE_MAX;
    is_its.then_some((slot_of(call.0), sequence))
}

/// A question to the replica with this number within its slot.
pub(crate) fn call(slot: SlotId, replica: u16) -> CallId {
    CallId(u64::from(replica) << 48 | slot_bits(slot))
}

/// Which slot and replica a call was.
pub(crate) fn of_call(call: CallId) -> (SlotId, u16) {
    (slot_of(call.0), (call.0 >> 48) as u16)
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
        assert_eq!(of_upkeep_call(CallId::NOBODY), None);
        assert_eq!(purpose_of(RequestId(3 << 56)), None);
    }
}
