//! One seed, from its beginning to its verdict: faults, then peace, then the checks.

use gramme_core::base::hash;
use gramme_core::port::{Op, Outcome, Quorum};
use gramme_core::version::ObjectView;

use super::checks::{
    Shown, acknowledged, converged, denied, expired, in_order, latest, prefix, quorum, resurrected,
    sessions, siblings,
};
use super::client::{is_cart, key_name, number_of};
use super::swarm::Swarm;
use super::world::World;

/// How long the cluster has for coming together when the faults have stopped.
const PEACE_MS: u64 = 20_000;

/// How often a bit that rotted may come to light at the end: each time its record is brought back from others.
const ROT_ROUNDS_MAX: usize = 4;

/// What became of a seed.
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What it drew.
    pub swarm: Swarm,
    /// Of everything that happened: equal for equal seeds.
    pub trace: u64,
    /// Events.
    pub steps: u64,
    /// Virtual time.
    pub virtual_ms: u64,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Reads that missed a write of their own client, or what that had been shown, where this was not promised.
    pub weak_reads: (u64, u64),
    /// The checks that failed.
    pub failed: Vec<&'static str>,
    /// What should have held and did not.
    pub violations: Vec<String>,
    /// What happened to the keys concerned, in order of virtual time.
    pub story: Vec<String>,
}

/// Runs a seed with what it draws.
pub fn run(seed: u64) -> Report {
    run_in(seed, Swarm::of(seed))
}

/// Runs a seed in a world that is given.
pub fn run_in(seed: u64, swarm: Swarm) -> Report {
    let mut world = World::new(seed, swarm);
    let safety_ns = world.began_ns + world.swarm.safety_ms * 1_000_000 + 100_000_000;
    world.run_until(safety_ns);
    world.heal();
    world.come_to_rest();
    let mut checks: Vec<(&'static str, Vec<String>)> = Vec::new();
    // Hints find their nodes by themselves; what no hint tells of, a comparison finds.
    // What is looked for in between is found by then.
    let rounds = if world.swarm.bent.watches_reads { 1 } else { 3 };
    for round in 0..rounds {
        let peace_ns = world.now_ns + PEACE_MS * 1_000_000;
        world.run_until(peace_ns);
        let has_all = !world.swarm.has_restarts() && !world.swarm.ends_in_blackout;
        if round == 0 && has_all && !world.swarm.is_live {
            checks.push(("hinted", held_alike(&mut world)));
        }
        if !world.swarm.bent.is_unattended {
            world.compare_all();
        }
    }
    if world.swarm.has_liars() {
        // A bit that rotted is found when its record is read: refused then, and brought back from others.
        show(&mut world, &mut Vec::new());
    }
    let peace_ns = world.now_ns + PEACE_MS * 1_000_000;
    world.run_until(peace_ns);
    checks.push(("held alike", come_to_be_held_alike(&mut world)));
    let mut unread = Vec::new();
    let end_ns = world.now_ns;
    let mut shown = show(&mut world, &mut unread);
    for _ in 0..ROT_ROUNDS_MAX {
        if !world.swarm.has_liars() || unread.is_empty() {
            break;
        }
        // The cache had hidden it until now.
        let peace_ns = world.now_ns + PEACE_MS * 1_000_000;
        world.run_until(peace_ns);
        unread.clear();
        shown = show(&mut world, &mut unread);
    }
    if !unread.is_empty() {
        world.tell_reports();
    }
    checks.push(("ring", world.ring.violations.clone()));
    world.watch_rest();
    checks.push(("bounded", world.unmet.clone()));
    checks.push(("frames", world.frames_taken.clone()));
    checks.push(("readable", unread));
    let (history, swarm) = (&world.history, &world.swarm);
    checks.push(("known values", history.violations.clone()));
    checks.push((
        "acknowledged",
        acknowledged::check(history, (&shown, swarm, end_ns), is_cart),
    ));
    checks.push((
        "expired",
        expired::check(history, (&shown, swarm, end_ns), is_cart),
    ));
    let sessions = sessions::check(history, swarm, is_cart);
    checks.push(("read your writes", sessions.read_your_writes));
    checks.push(("monotonic reads", sessions.monotonic_reads));
    checks.push(("monotonic writes", sessions.monotonic_writes));
    checks.push(("writes follow reads", sessions.writes_follow_reads));
    checks.push(("quorum", quorum::check(history, swarm, is_cart)));
    checks.push(("denied", denied::check(history, &shown)));
    checks.push(("siblings", siblings::check(history, &shown, is_cart)));
    checks.push(("resurrected", resurrected::check(history, &shown, is_cart)));
    checks.push(("latest", latest::check(history, (&shown, swarm), is_cart)));
    if swarm.bent.has_victim {
        checks.push(("in order", in_order::check(history, is_cart)));
    }
    checks.push(("converged", converged::check(&shown)));
    checks.push(("possible reads", world.reads_missed.clone()));
    checks.push(("zones", world.zones_missed.clone()));
    if swarm.bent.is_lone {
        // What a crash takes is gone for good there.
        checks.retain(|(name, _)| ["known values", "readable", "denied"].contains(name));
        checks.push(("prefix", prefix::check(history, &shown, is_cart)));
    }
    checks.retain(|(_, found)| !found.is_empty());
    let failed = checks.iter().map(|(name, _)| *name).collect();
    let violations: Vec<String> = checks
        .into_iter()
        .flat_map(|(name, found)| {
            found
                .into_iter()
                .map(move |what| format!("{what} [{name}]"))
        })
        .collect();
    let story = story(&world, &violations);
    Report {
        seed,
        trace: world.trace,
        steps: world.steps,
        virtual_ms: world.now_ns / 1_000_000,
        acknowledged: world
            .history
            .writes
            .values()
            .filter(|write| write.acknowledged_ns.is_some())
            .count(),
        weak_reads: (sessions.own_missed, sessions.shown_missed),
        swarm: world.swarm,
        failed,
        violations,
        story,
    }
}

/// The same, where tombstones of what expired late may be forgotten just now, by one node a moment before the next.
fn come_to_be_held_alike(world: &mut World) -> Vec<String> {
    let mut found = held_alike(world);
    for _ in 0..3 {
        if found.is_empty() || world.swarm.expiring == 0 {
            break;
        }
        let again_ns = world.now_ns + 2_000_000_000;
        world.run_until(again_ns);
        found = held_alike(world);
    }
    found
}

/// Without a single read the replicas have come to hold the same.
fn held_alike(world: &mut World) -> Vec<String> {
    let mut found = Vec::new();
    for key in 0..world.swarm.keys {
        let name = key_name(key);
        if is_unheard(world, &name) {
            continue;
        }
        let mut held = Vec::new();
        for node in 0..world.nodes.len() {
            if !world.holds(node, hash::token(b"default", &name)) {
                continue;
            }
            let op = Op::Fetch {
                wants_object: false,
            };
            match world.ask(node, &name, Quorum::default(), op) {
                Some((Outcome::Held(mine), _)) => held.push((node, mine.fingerprint)),
                answer => found.push(format!(
                    "key {key} at node {node}: its replica does not answer when all is well: {:?}",
                    answer.map(|(outcome, _)| outcome)
                )),
            }
        }
        if held.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            found.push(format!("key {key} is not held alike: {held:x?}"));
        }
    }
    found
}

/// Whether a replica of a given ring has lost a part of the key's partition, which nobody makes good there: a ring that is live
/// would (`checks::ring`).
fn is_unheard(world: &World, name: &[u8]) -> bool {
    let partition = world.nodes[0]
        .slices()
        .partition_of(hash::token(b"default", name));
    world.unheard.contains(&partition)
}

/// What each node shows of each key to a reader who asks all replicas.
fn show(world: &mut World, violations: &mut Vec<String>) -> Shown {
    let mut shown = Shown::new();
    let quorum = Quorum {
        r: world.swarm.n,
        ..Quorum::default()
    };
    for key in 0..world.swarm.keys {
        let name = key_name(key);
        if is_unheard(world, &name) {
            continue;
        }
        for node in 0..world.nodes.len() {
            if !world.holds(node, hash::token(b"default", &name)) {
                continue;
            }
            let wall_ms = world.nodes[node].now(world.now_ns).wall_ms;
            match world.ask(node, &name, quorum, Op::Get) {
                Some((Outcome::Object { object, .. }, bytes)) => {
                    let values = ObjectView::parse(object.of(&bytes)).map(|view| {
                        view.live(wall_ms)
                            .filter_map(|sibling| sibling.content.value())
                            .filter_map(number_of)
                            .collect()
                    });
                    shown.insert((node, key), values.unwrap_or_default());
                }
                Some((Outcome::Absent { .. }, _)) => {
                    shown.insert((node, key), Default::default());
                }
                Some((outcome, _)) => violations.push(format!(
                    "key {key} at node {node}: cannot be read when all is well again: {outcome:?}"
                )),
                None => violations.push(format!(
                    "key {key} at node {node}: no answer when all is well again"
                )),
            }
        }
    }
    shown
}

/// The story of the keys that the violations name, and of a live ring or of nodes that are dealt anew.
fn story(world: &World, violations: &[String]) -> Vec<String> {
    let ring = world
        .ring
        .story
        .iter()
        .filter(|_| world.swarm.is_live || world.swarm.redeals > 0);
    let keys = world.history.story.iter().filter(|(_, key, _)| {
        let begins = format!("key {key} ");
        violations.iter().any(|what| what.starts_with(&begins))
    });
    let ring = ring.map(|(at_ns, what)| (*at_ns, format!("ring: {what}")));
    let keys = keys.map(|(at_ns, key, what)| (*at_ns, format!("key {key}: {what}")));
    let mut story: Vec<(u64, String)> = keys.chain(ring).collect();
    story.sort_by_key(|(at_ns, _)| *at_ns);
    let line = |(at_ns, what): (u64, String)| format!("{:>10.3} ms  {what}", at_ns as f64 / 1e6);
    story.into_iter().map(line).collect()
}
