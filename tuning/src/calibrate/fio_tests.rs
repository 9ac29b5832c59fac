//! The loop of this program beside fio's, on one file, turn by turn: `cargo test --release -p gramme-tune -- --ignored
//! --nocapture beside_fio` on a quiet machine, with fio installed.
//!
//! Turn by turn, because a virtual disk's rate moves by more than the two programs differ; the medians are compared.

use super::load::{self, Load};
use super::scratch::Scratch;
use super::{Kind, UNIT_BYTES};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const ROUND_COUNT: usize = 9;
const TURN: Duration = Duration::from_secs(1);
const DIFFERENCE_PERCENT_MAX: f64 = 10.0;

fn fio(file: &Path, kind: Kind, depth: usize) -> f64 {
    let (rw, sync) = match kind {
        Kind::Write => ("randwrite", "--sync=0"),
        Kind::DurableWrite => ("randwrite", "--sync=dsync"),
        _ => ("randread", "--sync=0"),
    };
    let output = Command::new("fio")
        .args(["--name=beside", "--ioengine=io_uring", "--direct=1", sync])
        .args(["--bs=4k", "--time_based", "--output-format=json"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--rw={rw}"))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--runtime={}", TURN.as_secs()))
        .arg("--ramp_time=100ms")
        .output()
        .expect("fio is installed");
    let text = String::from_utf8(output.stdout).expect("text");
    let json = text.get(text.find('{').expect("JSON")..).expect("JSON");
    let told: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let side = if kind == Kind::Read { "read" } else { "write" };
    told["jobs"][0][side]["iops"].as_f64().expect("a rate")
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[test]
#[ignore = "needs fio, a quiet machine and minutes"]
fn beside_fio_the_figures_agree() {
    let dir = std::env::var_os("GRAMME_DISK").map_or_else(std::env::temp_dir, Into::into);
    let scratch = Scratch::make(&dir, 1 << 30).unwrap();
    let mut apart = Vec::new();
    println!("load           depth   gramme-tune /s   fio /s   difference %");
    for (kind, depth) in [
        (Kind::Read, 1),
        (Kind::Read, 8),
        (Kind::Read, 32),
        (Kind::Read, 128),
        (Kind::Write, 16),
        (Kind::DurableWrite, 4),
    ] {
        let (mut own, mut others, mut differences) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUND_COUNT {
            let measure_own = || {
                let point = load::run(&scratch, Load::new(kind, depth, UNIT_BYTES), TURN).unwrap();
                #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
                let rate = point.operations_per_s as f64;
                rate
            };
            let measure_other = || fio(scratch.path(), kind, depth);
            // Whoever comes second may gain or lose by it.
            let (a, b) = if round % 2 == 0 {
                let a = measure_own();
                (a, measure_other())
            } else {
                let b = measure_other();
                (measure_own(), b)
            };
            own.push(a);
            others.push(b);
            differences.push((a / b - 1.0) * 100.0);
        }
        let difference = median(differences);
        println!(
            "{kind:?} {depth} {:.0} {:.0} {difference:+.1}",
            median(own),
            median(others)
        );
        if difference.abs() > DIFFERENCE_PERCENT_MAX {
            apart.push(format!("{kind:?} at {depth}: {difference:+.1} %"));
        }
    }
    assert!(apart.is_empty(), "{apart:?}");
}
