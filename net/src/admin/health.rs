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
        if !status.damage.is_empty() {
            reasons.push(format!(
                "shard {shard}: {} damaged places in its log, what was there is unknown; `gramme data verify` names them",
                status.damage.len()
            ));
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use gramme_core::shard::ShardStatus;

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
}
