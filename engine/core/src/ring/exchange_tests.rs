//! Merging rings is a join, deltas are enough, and both sides of a split end with one valid ring.

use super::super::members::Change;
use super::super::plan::Circumstances;
use super::super::state::tests::{cluster, commit, facts, settle, stamp};
use super::*;
use crate::base::ids::PartitionId;
use proptest::prelude::*;

/// One act of an operator or a node on one side of a split.
#[derive(Clone, Debug)]
enum Act {
    Announce(u64),
    Join(u64),
    Leave(u64),
    Replace(u64, u64),
    Commit,
    Abort,
    Held(u64, u32),
    NotHeld(u64, u32),
    Settle,
    Remove(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (1u64..9).prop_map(Act::Announce),
        (1u64..9).prop_map(Act::Join),
        (1u64..9).prop_map(Act::Leave),
        (1u64..9, 1u64..9).prop_map(|(old, new)| Act::Replace(old, new)),
        Just(Act::Commit),
        Just(Act::Commit),
        Just(Act::Abort),
        (1u64..9, 0u32..16).prop_map(|(node, partition)| Act::Held(node, partition)),
        (1u64..9, 0u32..16).prop_map(|(node, partition)| Act::NotHeld(node, partition)),
        Just(Act::Settle),
        (1u64..9).prop_map(Act::Remove),
    ]
}

/// Carries out the acts; refused ones change nothing, which is asserted. Times of two sides never coincide.
fn carry_out(ring: &mut Ring, acts: &[Act], side: u64) {
    for (step, act) in (0..).zip(acts) {
        let mut at = stamp(100 + step);
        at.node = NodeId(1000 + side);
        let before = ring.clone();
        // A bitmap is its node's own: only one side of a split has that node.
        let is_here = |node: u64| node % 3 == side;
        let done = match act {
            Act::Announce(node) => ring
                .announce(NodeId(*node), facts("a"), 1 + step, at)
                .is_ok(),
            Act::Join(node) => ring.stage_join(NodeId(*node), at).is_ok(),
            Act::Leave(node) => ring.stage_leave(NodeId(*node), at).is_ok(),
            Act::Replace(old, new) => {
                let heir = super::super::solve::Heir {
                    old: NodeId(*old),
                    new: NodeId(*new),
                };
                ring.stage_replace(heir, at).is_ok()
            }
            Act::Commit => ring
                .plan(&Circumstances::default())
                .and_then(|plan| ring.commit(&plan, at))
                .is_ok(),
            Act::Abort => ring.abort(at.node).is_ok(),
            Act::Held(node, partition) => {
                is_here(*node) && ring.set_held(NodeId(*node), PartitionId(*partition))
            }
            Act::NotHeld(node, partition) => {
                is_here(*node) && ring.clear_held(NodeId(*node), PartitionId(*partition))
            }
            Act::Settle => {
                for partition in ring.partitions().iter() {
                    for target in ring.layout().targets(partition).collect::<Vec<_>>() {
                        if is_here(target.0) {
                            ring.set_held(target, partition);
                        }
                    }
                }
                true
            }
            Act::Remove(node) => ring.remove(NodeId(*node)).is_ok(),
        };
        assert!(ring.epoch() >= before.epoch(), "the epoch never falls");
        let same_content = ring.fingerprint() == before.fingerprint();
        assert!(
            done || same_content,
            "{act:?} was refused but changed something"
        );
        assert_eq!(same_content, ring.epoch() == before.epoch(), "{act:?}");
    }
}

fn join(left: &Ring, right: &Ring) -> Ring {
    let mut joined = left.clone();
    joined.merge(&right.whole()).expect("one cluster");
    joined
}

fn assert_valid(ring: &Ring) {
    let layout = ring.layout();
    for node in ring.held.keys() {
        assert!(
            !ring.members().is_removed(*node),
            "a removed node holds nothing"
        );
    }
    let routes = ring.routes();
    for partition in ring.partitions().iter() {
        let targets: Vec<NodeId> = layout.targets(partition).collect();
        for (position, target) in targets.iter().enumerate() {
            assert!(!targets[..position].contains(target));
        }
        let route = routes.of(partition);
        for (position, node) in route.writers().iter().enumerate() {
            assert!(!route.writers()[..position].contains(node), "each once");
            assert!(ring.members().get(*node).is_some(), "nobody removed");
        }
        for reader in route.readers() {
            assert!(
                ring.held(*reader)
                    .is_some_and(|held| held.contains(partition))
            );
        }
        for target in targets {
            let is_there = route.writers().contains(&target);
            assert!(
                is_there || ring.members().is_removed(target),
                "targets write"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn two_sides_of_a_split_end_with_one_valid_ring(
        one in prop::collection::vec(any_act(), 0..14),
        other in prop::collection::vec(any_act(), 0..14),
        third in prop::collection::vec(any_act(), 0..6),
    ) {
        let common = cluster(4);
        let mut sides = [common.clone(), common.clone(), common];
        for (side, acts) in [&one, &other, &third].into_iter().enumerate() {
            carry_out(&mut sides[side], acts, side as u64);
            assert_valid(&sides[side]);
        }
        let [a, b, c] = &sides;
        let ab = join(a, b);
        assert_valid(&ab);
        prop_assert_eq!(ab.fingerprint(), join(b, a).fingerprint());
        prop_assert_eq!(join(&ab, c).fingerprint(), join(a, &join(b, c)).fingerprint());
        prop_assert_eq!(&join(a, a), a);
        prop_assert!(ab.epoch() >= a.epoch().max(b.epoch()));
        if ab.fingerprint() != a.fingerprint() {
            prop_assert!(ab.epoch() > a.epoch());
        }
        // The same by digests and deltas, through bytes.
        let digest = RingDigest::from_bytes(&a.digest().to_bytes()).expect("a digest");
        let delta = RingPart::from_bytes(&b.newer_than(&digest).to_bytes()).expect("a part");
        let mut by_delta = a.clone();
        by_delta.merge(&delta).expect("one cluster");
        prop_assert_eq!(by_delta.fingerprint(), ab.fingerprint());
        prop_assert!(ab.newer_than(&join(b, a).digest()).is_empty());
        // What one side's operator did and the merged layout does not say is staged again.
        for staged in a.staged() {
            let wish = ab.members().get(staged.node).and_then(|member| member.wish());
            if wish == Some(staged.change) {
                let is_done = ab.layout().contains(staged.node) == (staged.change != Change::Leave);
                prop_assert_eq!(ab.staged().contains(&staged), !is_done);
            }
        }
        prop_assert_eq!(Ring::from_bytes(&ab.to_bytes()), Ok(ab));
    }

    #[test]
    fn no_damage_makes_a_reader_panic(at in any::<prop::sample::Index>(), bits in any::<u8>()) {
        let ring = cluster(3);
        for mut bytes in [ring.to_bytes(), ring.digest().to_bytes()] {
            let body = bytes.len() - 4;
            bytes[at.index(body)] ^= bits;
            let checksum = crc32c::crc32c(&bytes[..body]);
            bytes[body..].copy_from_slice(&checksum.to_le_bytes());
            if let Ok(ring) = Ring::from_bytes(&bytes) {
                let _ = ring.routes();
                let _ = ring.plan(&Circumstances::default());
            }
            let _ = RingDigest::from_bytes(&bytes);
        }
    }
}

#[test]
fn the_lesser_of_two_concurrent_layouts_loses_and_its_change_is_staged_again() {
    let mut common = cluster(3);
    for node in [5, 6] {
        common
            .announce(NodeId(node), facts("a"), 1, stamp(5))
            .expect("new");
    }
    let (mut one, mut other) = (common.clone(), common);
    one.stage_join(NodeId(5), stamp(10)).expect("known");
    commit(&mut one, 11);
    settle(&mut one);
    other.stage_join(NodeId(6), stamp(20)).expect("known");
    commit(&mut other, 21);

    let merged = one.merge(&other.whole()).expect("one cluster");
    let lost = merged.lost.expect("the earlier layout of the same version");
    assert_eq!(lost.winner, other.layout().id());
    assert_eq!(
        lost.returned,
        [Staged {
            node: NodeId(5),
            change: Change::Join
        }]
    );
    assert_eq!(one.staged(), lost.returned);
    let back = other.merge(&one.whole()).expect("one cluster");
    assert_eq!(back.lost, None, "the winner has lost nothing");
    assert_eq!(other.fingerprint(), one.fingerprint());
    // What node 5 fetched in the meantime is not thrown away: it lets go in order.
    assert!(one.held(NodeId(5)).is_some_and(|held| !held.is_empty()));
    commit(&mut one, 30);
    assert!(one.layout().contains(NodeId(5)));
    assert!(one.layout().contains(NodeId(6)));
}

#[test]
fn a_layout_that_follows_is_no_loss() {
    let mut one = cluster(3);
    let mut other = one.clone();
    for (node, hlc) in [(5, 10), (6, 20), (7, 30)] {
        other
            .announce(NodeId(node), facts("a"), 1, stamp(hlc))
            .expect("new");
        other.stage_join(NodeId(node), stamp(hlc)).expect("known");
        commit(&mut other, hlc + 1);
    }
    let merged = one.merge(&other.whole()).expect("one cluster");
    assert_eq!(
        merged,
        Merged {
            changed: true,
            lost: None
        }
    );
    let again = one.merge(&other.whole()).expect("one cluster");
    assert_eq!(again, Merged::default());
}

/// Both sides know of 5 and 6; one stages them anew while the other takes back what it knows.
#[test]
fn an_abort_drops_what_it_saw_and_not_what_the_other_side_staged_meanwhile() {
    let mut ring = cluster(4);
    for node in [5, 6, 7] {
        ring.announce(NodeId(node), facts("a"), 1, stamp(50))
            .expect("new");
    }
    ring.stage_join(NodeId(5), stamp(51)).expect("known");
    ring.stage_join(NodeId(6), stamp(51)).expect("known");
    ring.stage_leave(NodeId(4), stamp(51)).expect("a member");
    let (mut left, mut right) = (ring.clone(), ring);
    right.abort(NodeId(3)).expect("all known");
    right.stage_join(NodeId(6), stamp(60)).expect("known");
    right.stage_join(NodeId(7), stamp(60)).expect("known");
    right.stage_leave(NodeId(2), stamp(60)).expect("a member");
    let dropped = left.abort(NodeId(1)).expect("all known");
    assert_eq!(dropped.len(), 3);
    assert!(left.staged().is_empty());
    let merged = join(&left, &right);
    let staged: Vec<(u64, Change)> = merged
        .staged()
        .into_iter()
        .map(|staged| (staged.node.0, staged.change))
        .collect();
    let expected = [(2, Change::Leave), (6, Change::Join), (7, Change::Join)];
    assert_eq!(staged, expected);
}

#[test]
fn rings_of_two_clusters_do_not_merge() {
    let mut ring = cluster(2);
    let mut part = cluster(3).whole();
    part.cluster = 78;
    let before = ring.clone();
    assert_eq!(
        ring.merge(&part),
        Err(RingError::OtherCluster { own: 77, other: 78 })
    );
    assert_eq!(ring, before);
}

/// Sealed bytes with more at their end, as a later version writes them.
fn longer(bytes: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.raw(&bytes[..bytes.len() - 4]);
    out.raw(b"what is new about the ring");
    out.seal()
}

#[test]
fn what_a_later_version_adds_to_a_part_or_a_digest_is_read_over() {
    let ring = cluster(3);
    let part = RingPart::from_bytes(&longer(&ring.to_bytes()));
    assert_eq!(part, Ok(ring.whole()));
    let digest = RingDigest::from_bytes(&longer(&ring.digest().to_bytes()));
    assert_eq!(digest, Ok(ring.digest()));
}
