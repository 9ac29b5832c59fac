//! Known answers: a queue in simulated time, fed by the real schedule, read through the real analysis.

use std::time::Duration;

use super::*;
use crate::load::recorder::{Moments, Recorder};
use crate::target::outcome::Outcome;
use crate::workload::{Arrivals, Process, Shape, preset};

/// A server with one place and the service time that `service` gives for the moment at which it begins; the
/// generator is `lag` late for each request.
fn simulate(
    rate: f64,
    seconds: u64,
    lag: impl Fn(u64) -> u64,
    service: impl Fn(u64) -> u64,
) -> RunReport {
    let pace = Pace::Open {
        rate,
        process: Process::Poisson,
        shape: Shape::Constant,
    };
    let plan = LoadPlan {
        pace,
        duration: Duration::from_secs(seconds),
        threads: 1,
        connections: 1,
        depth: 1,
        timeout: Duration::from_secs(100),
        in_flight_max: usize::MAX,
        spin: false,
        seed: 11,
        window: LoadPlan::window_for(Duration::from_secs(seconds)),
        share_index: 0,
        share_count: 1,
    };
    let window_ns = plan.window.as_nanos() as u64;
    let mut arrivals = Arrivals::new(Process::Poisson, Shape::Constant, rate, plan.seed, 0, 1);
    let mut requests = Vec::new();
    let mut server_free_ns = 0;
    loop {
        let intended_ns = arrivals.next_ns();
        if intended_ns >= plan.end_ns() {
            break;
        }
        let sent_ns = intended_ns + lag(intended_ns);
        let begins_ns = sent_ns.max(server_free_ns);
        server_free_ns = begins_ns + service(begins_ns);
        requests.push(Moments {
            intended_ns,
            free_ns: intended_ns,
            sent_ns,
            answered_ns: server_free_ns,
        });
    }
    let last = requests
        .last()
        .map_or(0, |moments| moments.answered_ns / window_ns);
    let mut recorders: Vec<Recorder> = (0..=last.max(plan.end_ns() / window_ns - 1))
        .map(|_| Recorder::new())
        .collect();
    for moments in &requests {
        recorders[(moments.answered_ns / window_ns) as usize].record(
            Verb::Read,
            Outcome::Hit,
            *moments,
        );
        recorders[(moments.intended_ns / window_ns) as usize]
            .counts
            .due += 1;
    }
    let mut windows = Vec::new();
    let mut backlog = 0;
    for (index, recorder) in recorders.iter().enumerate() {
        backlog += recorder.counts.due;
        backlog -= recorder.counts.ended;
        windows.push(Window {
            index: index as u64,
            response: std::array::from_fn(|verb| {
                recorder.response[verb]
                    .as_ref()
                    .map(Latencies::pack)
                    .unwrap_or_default()
            }),
            service: recorder.service.pack(),
            lag: recorder.lag.pack(),
            wait: recorder.wait.pack(),
            counts: recorder.counts.clone(),
            backlog,
            cpu_share_max: 0.1,
            busy_ns: 0,
            spun_ns: 0,
        });
    }
    analyse(Material {
        target: "simulated".into(),
        label: None,
        workload: &preset::find("ycsb-c").expect("built in"),
        plan: &plan,
        warm_up: WarmUpRule::Auto,
        sla: None,
        windows: &windows,
        first_error: None,
        cpu_ns: 0,
        written_bytes: None,
        jitter: crate::stats::latencies::Summary::default(),
        steal_ticks: 0,
        started_unix_s: 0,
        target_facts: Vec::new(),
        host: HostFacts::default(),
    })
}

/// Known answer 1: an M/D/1 queue at 70 % load. Mean by Pollaczek–Khinchine, p99 by Erlang's exact distribution.
#[test]
fn a_queue_with_fixed_service_agrees_with_theory() {
    let (service_ns, load) = (1_000_000u64, 0.7);
    let report = simulate(load * 1000.0, 600, |_| 0, |_| service_ns);
    let mean_us = 1000.0 * (1.0 + load / (2.0 * (1.0 - load)));
    assert!(
        (report.response_us.mean / mean_us - 1.0).abs() < 0.02,
        "mean {} against {mean_us}",
        report.response_us.mean
    );
    let p99_us = md1_response_quantile(load, 0.99) * 1000.0;
    assert!(
        (report.response_us.p99 / p99_us - 1.0).abs() < 0.05,
        "p99 {} against {p99_us}",
        report.response_us.p99
    );
    assert_eq!(report.verdict, Verdict::Valid, "{}", report.reason);
    assert!((report.achieved_rate / 700.0 - 1.0).abs() < 0.02);
}

/// The response quantile of an M/D/1 queue in units of the service time, from Erlang's series for the waiting time:
/// P(W <= t) = (1-ρ) Σ_{k<=t} (-ρ(t-k))^k / k! · e^{ρ(t-k)}.
fn md1_response_quantile(load: f64, quantile: f64) -> f64 {
    let waits_less = |t: f64| {
        let mut sum = 0.0;
        let mut factorial = 1.0;
        for k in 0..=(t.floor() as i32) {
            if k > 0 {
                factorial *= f64::from(k);
            }
            let x = load * (t - f64::from(k));
            sum += (-x).powi(k) / factorial * x.exp();
        }
        (1.0 - load) * sum
    };
    let mut t = 0.0;
    while waits_less(t) < quantile {
        t += 0.001;
    }
    t + 1.0
}

/// Known answer 2: one second of stall in every ten. A tenth of the requests meets it, evenly spread over its
/// length, so the response at quantile q is (q - 0.9) / 0.1 of a second short of its whole; a tool that times from
/// the sending sees one request in a hundred thousand.
#[test]
fn a_stall_of_one_second_in_ten_shows_as_theory_says() {
    let period_ns = 10_000_000_000;
    let service_ns = 10_000;
    let report = simulate(
        1000.0,
        100,
        |_| 0,
        |begins_ns| {
            let into_ns = begins_ns % period_ns;
            if into_ns >= period_ns - 1_000_000_000 {
                period_ns - into_ns + service_ns
            } else {
                service_ns
            }
        },
    );
    assert_eq!(report.verdict, Verdict::Valid, "{}", report.reason);
    assert_eq!(
        report.warmup_s, 0.0,
        "the stall must not be cut away as a warm-up"
    );
    let expected_us = |quantile: f64| (quantile - 0.9) / 0.1 * 1e6;
    for (quantile, found_us) in [
        (0.99, report.response_us.p99),
        (0.999, report.response_us.p99_9),
    ] {
        let expected = expected_us(quantile);
        assert!(
            (found_us / expected - 1.0).abs() < 0.03,
            "p{}: {found_us} against {expected}",
            quantile * 100.0
        );
    }
    assert!(report.response_us.p50 < 100.0);
}

/// Known answer 4: half the capacity that is asked for.
#[test]
fn a_rate_above_capacity_is_invalid_and_names_the_target() {
    let report = simulate(2000.0, 20, |_| 0, |_| 1_000_000);
    assert_eq!(report.verdict, Verdict::Invalid);
    assert_eq!(
        report.limit,
        Some(crate::stats::validity::Limit::Target),
        "{}",
        report.reason
    );
    assert!(
        (report.achieved_rate / 1000.0 - 1.0).abs() < 0.02,
        "achieved {}",
        report.achieved_rate
    );
    assert!(
        report.response_us.max > 9e6,
        "the last request waited as long as the queue was: {}",
        report.response_us.max
    );
}

/// Known answer 5: a generator with a tenth of a CPU runs 10 ms and sleeps 90.
#[test]
fn a_starved_generator_is_invalid_and_names_itself() {
    let starved = |intended_ns: u64| {
        let into_ns = intended_ns % 100_000_000;
        if into_ns < 10_000_000 {
            0
        } else {
            100_000_000 - into_ns
        }
    };
    let report = simulate(1000.0, 20, starved, |_| 10_000);
    assert_eq!(
        report.limit,
        Some(crate::stats::validity::Limit::GeneratorLag),
        "{}",
        report.reason
    );
}

#[test]
fn a_report_of_nothing_is_invalid_and_holds_no_nan() {
    let report = simulate(0.001, 1, |_| 0, |_| 1);
    assert_eq!(report.verdict, Verdict::Invalid);
    let text = serde_json::to_string(&report).expect("serializable");
    assert!(!text.contains("null") || !text.contains("NaN"), "{text}");
    assert_eq!(report.response_us.p99_9, 0.0);
}
