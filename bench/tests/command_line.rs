//! The binary as CI sees it: exit codes, JSON fields, folders. Against synthetic servers on loopback; what is
//! asserted does not depend on the machine's speed.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use gramme_bench::stub::{Behaviour, StubServer};
use serde_json::Value;

fn server(service: Duration) -> StubServer {
    let behaviour = Behaviour {
        service,
        ..Behaviour::default()
    };
    StubServer::start(([127, 0, 0, 1], 0).into(), behaviour).expect("a free port")
}

fn bench(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gramme-bench"))
        .args(line.split(' '))
        .output()
        .expect("the binary runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

fn scratch(name: &str) -> PathBuf {
    let path =
        std::env::temp_dir().join(format!("gramme-bench-test-{}-{name}", std::process::id()));
    // A leftover of an earlier run with the same process id.
    let _ = std::fs::remove_dir_all(&path);
    path
}

#[test]
fn a_run_prints_the_contracts_fields_and_ends_with_0() {
    let stub = server(Duration::ZERO);
    let output = bench(&format!(
        "run --target resp://{} --rate 200 --duration 2s --sla p50<5s,errors<1% --json",
        stub.address()
    ));
    let report = json(&output);
    for name in [
        "verdict",
        "reason",
        "offered_rate",
        "achieved_rate",
        "requests",
        "errors",
        "sla",
    ] {
        assert!(!report[name].is_null(), "{name} is missing");
    }
    for name in ["response_us", "service_us", "lag_us"] {
        for part in ["p50", "p90", "p99", "p99_9", "p99_99", "max", "mean"] {
            assert!(report[name][part].is_f64(), "{name}.{part} is missing");
        }
    }
    assert_eq!(report["offered_rate"], 200.0);
    // A host too busy to generate 200 requests a second is allowed to say so, and nothing else.
    match report["verdict"].as_str() {
        Some("valid") => assert_eq!(
            (output.status.code(), &report["sla"]),
            (Some(0), &Value::from("met"))
        ),
        _ => assert_eq!(
            (output.status.code(), &report["limit"]),
            (Some(3), &Value::from("generator-lag"))
        ),
    }
}

#[test]
fn without_an_sla_there_is_no_sla_field() {
    let stub = server(Duration::ZERO);
    let output = bench(&format!(
        "run --target resp://{} --closed --duration 1s --json",
        stub.address()
    ));
    assert_eq!(output.status.code(), Some(0));
    assert!(json(&output).get("sla").is_none());
}

#[test]
fn a_missed_sla_ends_with_1() {
    let stub = server(Duration::from_millis(20));
    let output = bench(&format!(
        "run --target resp://{} --closed --connections 1 --duration 1s --sla p50<1ms --json",
        stub.address()
    ));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["sla"], "missed");
}

#[test]
fn what_cannot_be_run_ends_with_2_and_says_why() {
    for (line, hint) in [
        ("run", "--target"),
        ("run --target redis-on-6379", "resp://"),
        ("run --target resp://h:1 --workload no-such", "ycsb-a"),
        ("run --target resp://h:1 --rate -5", "--rate"),
        ("run --target resp://h:1 --sla p99<fast", "p99.9<2ms"),
        ("run --target resp://h:1 --rate 5 --closed", "--closed"),
        ("search --target resp://h:1", "--sla"),
        ("compare --a fjall:x --b fjall:x", "same directory"),
        (
            "run --target memcached://127.0.0.1:1 --workload ycsb-e",
            "cannot",
        ),
        ("report /no/such/folder", "--out"),
        ("agent --listen 0.0.0.0:0", "GRAMME_BENCH_TOKEN"),
    ] {
        let output = bench(line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(hint), "{line}: {said}");
    }
}

#[test]
fn a_rate_above_capacity_ends_with_3_and_names_the_resource() {
    let stub = server(Duration::from_millis(10));
    let line = format!(
        "run --target resp://{} --rate 1000 --duration 2s --connections 4 --timeout 1s --json",
        stub.address()
    );
    let output = bench(&line);
    let report = json(&output);
    assert_eq!(
        (output.status.code(), &report["verdict"]),
        (Some(3), &Value::from("invalid"))
    );
    assert!(
        report["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty())
    );
    assert!(
        report["achieved_rate"]
            .as_f64()
            .is_some_and(|rate| rate < 200.0),
        "{}",
        report["achieved_rate"]
    );
}

#[test]
fn too_few_requests_for_the_percentile_end_with_3() {
    let stub = server(Duration::ZERO);
    let output = bench(&format!(
        "run --target resp://{} --rate 100 --duration 1s --sla p99.9<10s --json",
        stub.address()
    ));
    let report = json(&output);
    assert_eq!(
        (output.status.code(), &report["limit"]),
        (Some(3), &Value::from("too-short"))
    );
}

#[test]
fn nobody_there_or_the_wrong_store_ends_with_3() {
    let gone = server(Duration::ZERO).address();
    assert_eq!(
        bench(&format!("run --target resp://{gone} --duration 1s"))
            .status
            .code(),
        Some(3)
    );
    let stub = server(Duration::ZERO);
    let output = bench(&format!(
        "run --target memcached://{} --duration 1s",
        stub.address()
    ));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("another kind of server"), "{said}");
}

#[test]
fn a_saved_run_becomes_a_page_that_needs_no_network() {
    let stub = server(Duration::ZERO);
    let folder = scratch("report");
    let line = format!(
        "run --target resp://{} --closed --duration 1s --out {}",
        stub.address(),
        folder.display()
    );
    assert_eq!(bench(&line).status.code(), Some(0));
    for name in ["run.json", "windows.json", "workload.toml", "response.hlog"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    assert_eq!(
        bench(&line).status.code(),
        Some(2),
        "a folder that holds a run is not overwritten"
    );
    let output = bench(&format!("report {}", folder.display()));
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("response by percentile"));
    let page = std::fs::read_to_string(folder.join("report.html")).expect("written");
    assert!(page.contains("<svg") && page.contains("Percentile spectrum"));
    for outside in ["src=", "href=", "@import", "url(", "<script", "NaN"] {
        assert!(!page.contains(outside), "the page holds {outside}");
    }
    std::fs::remove_dir_all(&folder).expect("ours");
}

#[test]
fn a_search_finds_a_rate_below_what_the_server_can_do() {
    // Ten milliseconds each, one after the other: a hundred a second at most, however fast the machine is.
    let stub = server(Duration::from_millis(10));
    let target = stub.address();
    let output = bench(&format!(
        "search --target resp://{target} --sla p50<300ms --start 10 --precision 60% --duration 1s --step 500ms --rest 50ms --json"
    ));
    let report = json(&output);
    let rate = report["rate"].as_f64().expect("a rate");
    assert!(rate < 130.0, "{rate}");
    assert!(report["confirmed"].is_boolean());
    assert!(
        report["points"]
            .as_array()
            .is_some_and(|points| points.len() >= 3)
    );
}

#[test]
fn the_machines_limits_are_measured_saved_and_drawn() {
    let folder = scratch("limits");
    let line = format!(
        "limits --duration 20ms --file 1MiB --dir {0} --out {0} --json",
        folder.display()
    );
    let output = bench(&line);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let limits = json(&output)["limits"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for wanted in ["system call", "loopback", "generator", "durable writes"] {
        let found = limits.iter().any(|figure| {
            figure["name"]
                .as_str()
                .is_some_and(|name| name.contains(wanted))
        });
        assert!(found, "{wanted} is missing");
    }
    assert_eq!(
        bench(&format!("report {}", folder.display())).status.code(),
        Some(0)
    );
    let page = std::fs::read_to_string(folder.join("report.html")).expect("written");
    assert!(page.contains("What this machine can do"));
    std::fs::remove_dir_all(&folder).expect("ours");
}

#[test]
fn a_comparison_runs_a_command_before_each_run_of_its_side() {
    let stub = server(Duration::ZERO);
    let told = scratch("told");
    let before = |side: &str| format!("echo {side} >> {}", told.display());
    let address = format!("resp://{}", stub.address());
    let compare = |before_b: &str| {
        Command::new(env!("CARGO_BIN_EXE_gramme-bench"))
            .args(["compare", "--a", &address, "--b", &address, "--closed"])
            .args(["--rounds", "4", "--duration", "8s"])
            .args(["--before-a", &before("a"), "--before-b", before_b])
            .output()
            .expect("the binary runs")
    };
    let output = compare(&before("b"));
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let order = std::fs::read_to_string(&told).expect("the commands ran");
    assert_eq!(order.split_whitespace().collect::<String>(), "abbaabba");
    let failed = compare("exit 7");
    assert_eq!(failed.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("exit 7"));
    std::fs::remove_file(told).expect("ours");
}
