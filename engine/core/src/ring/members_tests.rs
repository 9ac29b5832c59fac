//! The members' merge is a join, removal is for good, and no bytes make a reader panic.

use super::*;
use proptest::prelude::*;

fn stamp(hlc: u64, node: u64) -> Stamp {
    Stamp {
        hlc: Hlc(hlc),
        node: NodeId(node),
    }
}

fn facts(name: &str) -> Facts {
    Facts {
        listen: format!("{name}:7400"),
        name: name.to_owned(),
        weight: 1,
        shards: 2,
        ..Facts::default()
    }
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    (1u64..4, 0u64..2).prop_map(|(hlc, node)| stamp(hlc, node))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let wish = prop::option::of(prop_oneof![
        Just(Change::Join),
        Just(Change::Leave),
        (0u64..3).prop_map(|old| Change::Replace { old: NodeId(old) }),
    ]);
    let wish = prop_oneof![
        4 => wish.prop_map(Wish::from),
        // Of a later version.
        1 => (4u8..6, 0u64..2).prop_map(|(word, node)| Wish { word, node: NodeId(node) }),
    ];
    let rest = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(0u8..2, 1..3)];
    let facts_of = ("[ab]", rest).prop_map(|(name, rest)| (facts(&name), rest.into_boxed_slice()));
    let present = (facts_of, any_stamp(), 0u64..3, wish, any_stamp()).prop_map(
        |((facts, facts_rest), facts_stamp, start_count, wish, wish_stamp)| {
            Entry::Present(Member {
                facts,
                facts_rest,
                facts_stamp,
                start_count,
                wish,
                wish_stamp,
            })
        },
    );
    prop_oneof![8 => present, 1 => Just(Entry::Removed)]
}

fn any_members() -> impl Strategy<Value = Members> {
    prop::collection::btree_map((0u64..4).prop_map(NodeId), any_entry(), 0..4)
        .prop_map(|entries| Members { entries })
}

fn join(left: &Members, right: &Members) -> Members {
    let mut joined = left.clone();
    let changed = joined.merge(right);
    assert_eq!(changed, joined != *left, "merge says whether it changed");
    joined
}

proptest! {
    #[test]
    fn merge_is_a_join(a in any_members(), b in any_members(), c in any_members()) {
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(join(&a, &a), a.clone());
        prop_assert_eq!(join(&a, &b).digest(), join(&b, &a).digest());
    }

    #[test]
    fn what_is_newer_than_a_peers_versions_is_all_it_lacks(a in any_members(), b in any_members()) {
        // Equal stamps with different content are no honest cluster's: there the delta may stay silent.
        let honest = a.entries.iter().all(|(node, entry)| match (entry, b.entries.get(node)) {
            (Entry::Present(own), Some(Entry::Present(other))) => {
                let facts = (&own.facts, &own.facts_rest);
                let is_same = facts == (&other.facts, &other.facts_rest);
                (own.facts_stamp != other.facts_stamp || is_same)
                    && (own.wish_stamp != other.wish_stamp || own.wish == other.wish)
            }
            _ => true,
        });
        prop_assume!(honest);
        let delta = a.newer_than(&b.versions().collect());
        prop_assert_eq!(join(&b, &delta), join(&b, &a));
        let delta = a.newer_than(&a.versions().collect());
        prop_assert!(delta.is_empty());
    }

    #[test]
    fn bytes_return_the_same(members in any_members()) {
        prop_assert_eq!(Members::from_bytes(&members.to_bytes()), Ok(members));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Members::from_bytes(&bytes).is_err());
        let mut sealed = KIND.to_le_bytes().to_vec();
        sealed.append(&mut bytes);
        let checksum = crc32c::crc32c(&sealed);
        sealed.extend_from_slice(&checksum.to_le_bytes());
        let _ = Members::from_bytes(&sealed);
    }

    #[test]
    fn a_flipped_field_behind_a_right_checksum_does_not_panic(
        members in any_members(),
        at in any::<prop::sample::Index>(),
        bits in any::<u8>(),
    ) {
        let mut bytes = members.to_bytes();
        let body = bytes.len() - 4;
        bytes[at.index(body)] ^= bits;
        let checksum = crc32c::crc32c(&bytes[..body]);
        bytes[body..].copy_from_slice(&checksum.to_le_bytes());
        let _ = Members::from_bytes(&bytes);
    }
}

#[test]
fn a_removed_id_stays_removed_and_cannot_announce_itself() {
    let node = NodeId(7);
    let mut members = Members::default();
    assert_eq!(members.announce(node, facts("a"), 1, stamp(1, 7)), Ok(true));
    let before = members.clone();
    assert!(members.remove(node));
    assert!(!members.remove(node));
    assert!(
        !members.merge(&before),
        "what was said before changes nothing"
    );
    assert_eq!(
        members.announce(node, facts("a"), 9, stamp(99, 7)),
        Err(MemberError::Removed(node))
    );
    assert_eq!(
        members.wish(node, Some(Change::Join), stamp(99, 7)),
        Err(MemberError::Removed(node))
    );
    assert_eq!(members.get(node), None);
    assert!(members.is_removed(node));
}

#[test]
fn a_restart_on_one_side_does_not_undo_what_was_staged_on_the_other() {
    let node = NodeId(7);
    let mut one = Members::default();
    one.announce(node, facts("a"), 1, stamp(1, 7)).expect("new");
    let mut other = one.clone();
    one.wish(node, Some(Change::Leave), stamp(5, 1))
        .expect("known");
    other
        .announce(node, facts("b"), 2, stamp(9, 7))
        .expect("known");
    let joined = join(&one, &other);
    let member = joined.get(node).expect("present");
    assert_eq!(member.wish(), Some(Change::Leave));
    assert_eq!(member.facts(), &facts("b"));
    assert_eq!(member.start_count(), 2);
}

#[test]
fn a_local_change_counts_though_the_clock_is_behind() {
    let node = NodeId(7);
    let mut members = Members::default();
    members
        .announce(node, facts("a"), 1, stamp(100, 7))
        .expect("new");
    let before = members.clone();
    members
        .announce(node, facts("b"), 1, stamp(3, 7))
        .expect("known");
    let mut peer = before;
    assert!(peer.merge(&members));
    assert_eq!(peer.get(node).map(Member::facts), Some(&facts("b")));
}

#[test]
fn what_a_later_version_says_of_a_node_is_handed_on_whole_until_the_node_is_of_this_one() {
    let node = NodeId(7);
    let mut own = Members::default();
    own.announce(node, facts("a"), 1, stamp(1, 7)).expect("new");
    own.wish(node, Some(Change::Join), stamp(1, 1))
        .expect("known");
    // The same node, later and of a later version, with a wish of one.
    let Some(Entry::Present(member)) = own.entries.get(&node).cloned() else {
        panic!("it was announced");
    };
    let wish = Wish {
        word: 200,
        node: NodeId(3),
    };
    let newer = Member {
        facts_rest: b"its rack".as_slice().into(),
        facts_stamp: stamp(2, 7),
        wish,
        wish_stamp: stamp(2, 1),
        ..member
    };
    let newer = Members {
        entries: [(node, Entry::Present(newer))].into(),
    };
    let bytes = newer.to_bytes();
    let heard = Members::from_bytes(&bytes).expect("an older version reads it");
    assert!(own.merge(&heard));
    assert_eq!(own.get(node).and_then(Member::wish), None);
    assert_eq!(own.get(node).map(Member::facts), Some(&facts("a")));
    // A third, of the later version, gets it from here as from the node itself.
    assert_eq!(own.to_bytes(), bytes);
    assert_eq!(own.digest(), newer.digest());
    // Back at this version the node says the same of itself, and no more.
    assert_eq!(own.announce(node, facts("a"), 2, stamp(3, 7)), Ok(true));
    let Some(Entry::Present(member)) = own.entries.get(&node) else {
        panic!("it is there");
    };
    assert!(member.facts_rest.is_empty());
    assert_eq!(member.wish, wish);
    assert!(heard.clone().merge(&own), "that is news to all");
}
