//! The pace against a model of a machine: what clients feel as a function of what the background does.

use super::*;
use crate::replica::stages::Stage;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const TURN_NS: u64 = MS;

/// A machine: a loop that turns every millisecond, clients that ask so often, a background that always has work, and the
/// latency that comes of its rate.
struct Machine {
    pace: BackgroundPace,
    now_ns: u64,
    requests_per_s: u64,
    requests: u64,
    random: u64,
    /// Bytes that the background moved.
    moved: u64,
    /// Requests over the promise.
    late: u64,
}

impl Machine {
    fn new(config: PaceConfig, requests_per_s: u64) -> Self {
        Self {
            pace: BackgroundPace::new(config),
            now_ns: 5_000 * MS,
            requests_per_s,
            requests: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            moved: 0,
            late: 0,
        }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    /// Runs for so long; `slow_ns` is how long one request of five hundred takes at a rate, the others a tenth of it.
    fn run(&mut self, for_ns: u64, slow_ns: impl Fn(u64) -> u64) {
        let until_ns = self.now_ns + for_ns;
        let mut moved_in_turn = 0;
        while self.now_ns < until_ns {
            self.now_ns += TURN_NS;
            let due = (self.now_ns / MS) * self.requests_per_s / 1000
                - (self.now_ns / MS - 1) * self.requests_per_s / 1000;
            for _ in 0..due {
                self.requests += 1;
                self.pace.foreground.begun();
                let rate = self.pace.bytes_per_s();
                let one = if self.random().is_multiple_of(500) {
                    10
                } else {
                    1
                };
                // Some tenths more or less.
                let took_ns = slow_ns(rate) / 10 * one / 16 * (14 + self.random() % 5);
                self.late += u64::from(took_ns > self.pace.config.sla_p999_ns);
                self.pace.foreground.waited(Stage::Replicas, took_ns);
            }
            while self.pace.is_open(self.now_ns) && moved_in_turn < 1 << 20 {
                self.pace.spend(self.now_ns, 16 << 10);
                self.moved += 16 << 10;
                moved_in_turn += 16 << 10;
            }
            moved_in_turn = 0;
            self.pace.turn_end(self.now_ns);
        }
    }

    /// Bytes a second while this runs.
    fn rate_of(&mut self, for_ns: u64, slow_ns: impl Fn(u64) -> u64) -> u64 {
        let before = self.moved;
        self.run(for_ns, slow_ns);
        (self.moved - before) * 1_000 / (for_ns / MS)
    }
}

const SECOND: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

fn whole_of(bytes_per_s: u64) -> PaceConfig {
    PaceConfig {
        bytes_per_s,
        ..PaceConfig::default()
    }
}

#[test]
fn what_is_spent_keeps_to_the_rate_and_all_of_it_where_no_client_asks() {
    let mut machine = Machine::new(whole_of(8 * MIB), 0);
    let rate = machine.rate_of(20 * SECOND, |_| 0);
    assert!((7 * MIB..=8 * MIB + MIB / 2).contains(&rate), "{rate}");
}

#[test]
fn slack_is_used_up_to_the_whole_rate_and_not_in_one_leap() {
    let mut machine = Machine::new(whole_of(64 * MIB), 5_000);
    machine.run(SECOND, |_| 2 * MS);
    assert!(
        machine.pace.share < WHOLE / 2,
        "{} in a second",
        machine.pace.share
    );
    machine.run(8 * SECOND, |_| 2 * MS);
    assert_eq!(machine.pace.share, WHOLE);
    assert_eq!(machine.pace.cuts, 0);
}

/// 3 ms at rest, and a millisecond more for each 2 MiB a second: the promise of 10 ms is met up to 14 MiB a second.
fn hurts(rate: u64) -> u64 {
    3 * MS + rate * MS / (2 * MIB)
}

#[test]
fn the_share_settles_below_the_promise_and_near_it() {
    for requests_per_s in [2_000, 20_000] {
        let mut machine = Machine::new(whole_of(64 * MIB), requests_per_s);
        machine.run(20 * SECOND, hurts);
        let (late, requests) = (machine.late, machine.requests);
        let rate = machine.rate_of(60 * SECOND, hurts);
        assert!((4 * MIB..=14 * MIB).contains(&rate), "{rate}");
        let late = machine.late - late;
        let allowed = (machine.requests - requests) / 1000;
        assert!(late < allowed, "{late} late, {allowed} allowed");
        assert!(machine.pace.cuts > 2);
        assert_eq!(machine.pace.excuses, 0);
    }
}

#[test]
fn a_burst_of_clients_is_made_room_for_within_two_seconds() {
    let mut machine = Machine::new(whole_of(64 * MIB), 10_000);
    machine.run(10 * SECOND, |_| MS);
    assert_eq!(machine.pace.share, WHOLE);
    let feels = |rate| 4 * MS + rate * MS / MIB;
    machine.run(2 * SECOND, feels);
    assert!(feels(machine.pace.bytes_per_s()) < 10 * MS);
}

#[test]
fn where_the_background_is_not_the_cause_it_is_not_starved() {
    let mut machine = Machine::new(whole_of(64 * MIB), 5_000);
    // Bad whatever the background does.
    let rate = machine.rate_of(70 * SECOND, |_| 40 * MS);
    assert!(rate > 16 * MIB, "{rate}");
    assert!((1..=3).contains(&machine.pace.excuses));
    // Bad for another cause and worse for the background: what it adds stays bounded.
    let mut machine = Machine::new(whole_of(64 * MIB), 5_000);
    let feels = |rate| 20 * MS + rate * MS / MIB;
    machine.run(30 * SECOND, feels);
    let felt_ns = feels(machine.pace.bytes_per_s());
    assert!(felt_ns < 36 * MS, "{felt_ns}");
}

#[test]
fn an_excuse_ends_with_its_cause() {
    let mut machine = Machine::new(whole_of(64 * MIB), 5_000);
    machine.run(5 * SECOND, |_| 40 * MS);
    assert!(machine.pace.excuse.is_some());
    machine.run(5 * SECOND, |_| 2 * MS);
    assert!(machine.pace.excuse.is_none());
    // And where it does not show, after its time.
    let mut machine = Machine::new(whole_of(64 * MIB), 5_000);
    machine.run(5 * SECOND, |_| 40 * MS);
    machine.run(60 * SECOND, |rate| 7 * MS + rate * MS / (4 * MIB));
    let felt_ns = 7 * MS + machine.pace.bytes_per_s() * MS / (4 * MIB);
    assert!(felt_ns <= 10 * MS, "{felt_ns}");
}

#[test]
fn few_requests_and_a_slow_one_now_and_then_do_not_make_it_hunt() {
    let mut machine = Machine::new(whole_of(64 * MIB), 0);
    // Twenty a second, one of a hundred slow for another reason.
    for round in 0..2_000u64 {
        machine.run(50 * MS, |_| 0);
        machine.pace.foreground.begun();
        let is_slow = round % 100 == 50;
        machine
            .pace
            .foreground
            .waited(Stage::Replicas, if is_slow { 30 * MS } else { MS });
    }
    assert_eq!(machine.pace.cuts, 0);
    assert_eq!(machine.pace.share, WHOLE);
}

#[test]
fn one_bad_moment_cuts_once() {
    let mut machine = Machine::new(whole_of(64 * MIB), 10_000);
    machine.run(10 * SECOND, |_| MS);
    machine.run(20 * MS, |_| 100 * MS);
    machine.run(SECOND, |_| MS);
    assert_eq!(machine.pace.cuts, 1);
}

#[test]
fn what_has_rested_begins_small_where_clients_are() {
    let mut machine = Machine::new(whole_of(64 * MIB), 5_000);
    machine.run(10 * SECOND, |_| MS);
    assert_eq!(machine.pace.share, WHOLE);
    for _ in 0..3_000 {
        machine.now_ns += MS;
        machine.pace.foreground.begun();
        machine.pace.turn_end(machine.now_ns);
    }
    assert_eq!(machine.pace.share, START);
    let cuts = machine.pace.cuts;
    for _ in 0..3_000 {
        machine.now_ns += MS;
        machine.pace.foreground.begun();
        machine.pace.foreground.waited(Stage::Replicas, 50 * MS);
        machine.pace.turn_end(machine.now_ns);
    }
    assert_eq!(machine.pace.cuts, cuts, "nothing to cut");
}

#[test]
fn answers_to_other_nodes_wait_for_what_was_spent_but_not_for_ever() {
    let mut pace = BackgroundPace::new(whole_of(8 * MIB));
    let now_ns = 10 * SECOND;
    assert_eq!(pace.answer_at_ns(now_ns), now_ns);
    pace.spend(now_ns, MIB / 4);
    let at_ns = pace.answer_at_ns(now_ns);
    assert!(at_ns > now_ns + 100 * MS, "{at_ns}");
    pace.spend(now_ns, 64 * MIB);
    assert_eq!(pace.answer_at_ns(now_ns), now_ns + ANSWER_DELAY_NS_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever clients feel, the background keeps a floor and its greatest rate.
    #[test]
    fn the_rate_stays_between_its_bounds(
        whole in MIB..256 * MIB,
        requests_per_s in 0u64..4_000,
        felt_ms in proptest::collection::vec(0u64..200, 1..12),
    ) {
        let mut machine = Machine::new(whole_of(whole), requests_per_s);
        for felt_ms in felt_ms {
            let before = machine.moved;
            machine.run(2 * SECOND, |_| felt_ms * MS);
            let moved = machine.moved - before;
            let rate = machine.pace.bytes_per_s();
            prop_assert!(rate >= whole / 64 && rate <= whole);
            // A step that is larger than what the floor pays in this time may be from before.
            prop_assert!(moved >= whole / 64, "{moved}");
            prop_assert!(moved <= whole / 10 * 22, "{moved} of {whole}");
        }
    }

    /// Wherever the point lies at which the background begins to hurt, the promise is kept and half of the slack is used.
    #[test]
    fn wherever_it_begins_to_hurt_the_promise_is_kept(
        rest_ms in 1u64..5,
        bytes_per_ms in MIB..6 * MIB,
        requests_per_s in 3_000u64..10_000,
    ) {
        let feels = |rate: u64| rest_ms * MS + rate * MS / bytes_per_ms;
        let mut machine = Machine::new(whole_of(64 * MIB), requests_per_s);
        machine.run(15 * SECOND, feels);
        let (late, requests) = (machine.late, machine.requests);
        let rate = machine.rate_of(30 * SECOND, feels);
        let (late, requests) = (machine.late - late, machine.requests - requests);
        prop_assert!(late <= requests / 1000, "{late} of {requests}");
        let promised = (10 - rest_ms) * bytes_per_ms;
        prop_assert!(rate >= promised.min(64 * MIB) * 2 / 5, "{rate} of {promised}");
    }
}
