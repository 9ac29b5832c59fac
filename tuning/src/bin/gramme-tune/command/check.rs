//! `gramme-tune check`.

use super::{out, print};
use crate::args::Check;
use crate::host::Host;
use crate::{Exit, Failure};
use gramme_tune::check::{Finding, Verdict, check};
use gramme_tune::listing::word;

pub(crate) fn run(args: &Check) -> Result<Exit, Failure> {
    let host = Host::open(&args.target)?;
    let findings = check(&host.tree, &host.machine, &host.choice);
    let off = findings.iter().filter(|finding| finding.matters()).count();
    if args.json {
        let text = serde_json::to_string_pretty(&findings).map_err(Failure::of)?;
        out(&format!("{text}\n"))?;
    } else {
        person(args, &host, &findings, off)?;
    }
    Ok(if off == 0 { Exit::Fine } else { Exit::Off })
}

fn person(args: &Check, host: &Host, findings: &[Finding], off: usize) -> Result<(), Failure> {
    let machine = &host.machine;
    let disks: Vec<&str> = machine
        .disks
        .iter()
        .map(|disk| disk.name.as_str())
        .collect();
    let nics: Vec<&str> = machine.nics.iter().map(|nic| nic.name.as_str()).collect();
    out(&format!(
        "{}; shards on CPUs {} of {}; disks: {}; network: {}\n\n",
        machine.environment.describe(),
        machine.shard_cpus,
        machine.online_cpus,
        if disks.is_empty() {
            "none found".to_owned()
        } else {
            disks.join(" ")
        },
        if nics.is_empty() {
            "none found".to_owned()
        } else {
            nics.join(" ")
        },
    ))?;
    let is_off = |verdict| matches!(verdict, Verdict::Fix | Verdict::Manual | Verdict::Reboot);
    let mut shown: Vec<&Finding> = findings
        .iter()
        .filter(|finding| args.all || is_off(finding.verdict))
        .collect();
    // What matters most first; within that, the order of the catalogue.
    shown.sort_by_key(|finding| {
        (
            !is_off(finding.verdict),
            std::cmp::Reverse(finding.severity),
        )
    });
    let rows: Vec<Vec<String>> = shown
        .iter()
        .map(|finding| {
            vec![
                finding.verdict.word().to_owned(),
                word(&finding.severity),
                finding.knob.to_owned(),
                finding.current.clone(),
                finding.wanted.clone(),
                finding.path.clone(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        print(
            &["verdict", "severity", "knob", "current", "wanted", "where"],
            &rows,
        )?;
        out("\n")?;
        let mut told = Vec::new();
        for finding in shown.iter().filter(|finding| {
            is_off(finding.verdict) && finding.severity >= gramme_tune::knob::Severity::Warning
        }) {
            // Many places of one knob share their reason.
            if !told.contains(&finding.knob) {
                out(&format!("{}: {}\n", finding.knob, finding.why))?;
                told.push(finding.knob);
            }
        }
    }
    let count = |verdict| {
        findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    out(&format!(
        "\n{} looked at: {} ok, {} for `apply`, {} by hand, {} with a restart; {off} of these matter\n",
        findings.len(),
        count(Verdict::Ok),
        count(Verdict::Fix),
        count(Verdict::Manual),
        count(Verdict::Reboot),
    ))
}
