//! Whether a node serves, and why not.

use gramme_core::shard::WriteState;

use super::Seen;

/// Each reason why the node does not serve all that it should, in words; none when it does.
pub(super) fn reasons(seen: &Seen) -> Vec<String> {
    let mut reasons = seen.failures.clone();
    for (shard, status) in seen.shards.iter().enumerate() {
        let Some(status) = status else {
            reasons.push(format!(
                "shard {shard} has ended or does not answer; see the node's log"
            ));
            continue;
        };
        reasons.extend(status.trouble.clone());
        match status.writes {
            WriteState::Open => {}
            WriteState::DiskFull => reasons.push(format!(
                "shard {shard}: disk full ({} of {} bytes), deletes and reads only; free or add space",
                status.used_bytes, status.capacity_bytes
            )),
            WriteState::ReadOnly => reasons.push(format!(
                "shard {shard}: read-only since its disk failed ({} failed writes); replace the disk, then restart",
                status.write_faults
            )),
        }
        if status.damage_unrepaired > 0 {
            reasons.push(format!(
                "shard {shard}: its log is damaged ({} places), {} keys, partitions or segments are unknown; other nodes bring them \
                 back where they have copies, else restore them; `gramme data verify` names the places",
                status.damage.len(),
                status.damage_unrepaired
            ));
        }
    }
    reasons
}

/// What an operator should know of a node that serves.
pub(super) fn notes(seen: &Seen) -> Vec<String> {
    let repaired = seen.shards.iter().enumerate().filter_map(|(shard, status)| {
        let status = status.as_ref()?;
        let is_repaired = !status.damage.is_empty() && status.damage_unrepaired == 0;
        is_repaired.then(|| {
            format!(
                "shard {shard}: {} damaged places in its log, of which nothing is unknown any more; look at the disk",
                status.damage.len()
            )
        })
    });
    let lost = seen.shards.iter().enumerate().filter_map(|(shard, status)| {
        let lost = status.as_ref()?.hints_lost;
        (lost > 0).then(|| {
            format!(
                "shard {shard}: {lost} hints were given up since the start: what was kept for nodes that were away is damaged \
                 and no replica has that version; acknowledged writes may be lost, the node's log names the last keys"
            )
        })
    });
    repaired.chain(lost).collect()
}

#[cfg(test)]
mod tests {
    use gramme_core::base::ids::SegmentId;
    use gramme_core::shard::{Damage, ShardStatus};

    use super::*;

    #[test]
    fn each_trouble_has_its_reason_and_a_sound_node_none() {
        let sound = Some(ShardStatus::default());
        let seen = |shards| Seen {
            shards,
            failures: Vec::new(),
        };
        assert!(reasons(&seen(vec![sound.clone(), sound.clone()])).is_empty());
        let full = ShardStatus {
            writes: WriteState::DiskFull,
            ..ShardStatus::default()
        };
        let broken = ShardStatus {
            writes: WriteState::ReadOnly,
            ..ShardStatus::default()
        };
        let all = reasons(&seen(vec![sound, Some(full), Some(broken), None]));
        assert!(all[0].starts_with("shard 1: disk full"), "{all:?}");
        assert!(all[1].starts_with("shard 2: read-only"), "{all:?}");
        assert!(all[2].starts_with("shard 3 has ended"), "{all:?}");
        let refused = ShardStatus {
            trouble: Some("this node's id was removed".into()),
            ..ShardStatus::default()
        };
        let refused = reasons(&seen(vec![Some(refused)]));
        assert_eq!(refused, ["this node's id was removed"]);
    }

    #[test]
    fn damage_is_a_reason_until_it_is_repaired_and_a_note_from_then_on() {
        let seen = |unrepaired| Seen {
            shards: vec![Some(ShardStatus {
                damage: vec![Damage {
                    segment: SegmentId(3),
                    offset: 512,
                }],
                damage_unrepaired: unrepaired,
                ..ShardStatus::default()
            })],
            failures: Vec::new(),
        };
        let (reasons_before, notes_before) = (reasons(&seen(2)), notes(&seen(2)));
        assert!(reasons_before[0].contains("(1 places), 2 keys"));
        assert!(notes_before.is_empty());
        let (reasons_since, notes_since) = (reasons(&seen(0)), notes(&seen(0)));
        assert!(reasons_since.is_empty());
        assert!(notes_since[0].contains("nothing is unknown"));
    }

    #[test]
    fn hints_that_were_given_up_are_a_note() {
        let seen = Seen {
            shards: vec![Some(ShardStatus {
                hints_lost: 3,
                ..ShardStatus::default()
            })],
            failures: Vec::new(),
        };
        assert!(reasons(&seen).is_empty());
        assert!(notes(&seen)[0].contains("3 hints were given up"));
    }
}
