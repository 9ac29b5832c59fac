//! The alert rules and the dashboard against the metrics page: whoever renames a metric hears of it here.

use std::collections::BTreeSet;
use std::time::Duration;

use gramme_core::shard::ShardStatus;

use super::{Seen, metrics};
use crate::reactor::Counters;

const ALERTS: &str = include_str!("../../../tuning/alerts/gramme.yml");
const DASHBOARD: &str = include_str!("../../../tuning/grafana/gramme.json");

/// Every word that looks like a metric of ours.
fn named(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("gramme_"))
        .collect()
}

/// The series of a node's page.
fn served() -> BTreeSet<String> {
    let seen = Seen {
        shards: vec![Some(ShardStatus::default())],
        failures: Vec::new(),
    };
    let page = metrics::text(Some(&seen), &Counters::default(), Duration::from_secs(1));
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned))
        .collect()
}

#[test]
fn every_metric_of_the_alerts_and_the_dashboard_is_served() {
    let served = served();
    for (file, text, least) in [("alerts", ALERTS, 12), ("dashboard", DASHBOARD, 30)] {
        let named = named(text);
        assert!(named.len() >= least, "{file}: {named:?}");
        for metric in named {
            assert!(served.contains(metric), "{file} names {metric}");
        }
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    for rule in ALERTS.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap_or_default();
        for part in ["expr: ", "severity: ", "summary: ", "action: "] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
    }
}

#[test]
fn the_dashboard_is_json_whose_panels_each_ask_something() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() > 15);
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty());
        for target in targets {
            let expr = target["expr"].as_str().expect("a query");
            assert!(expr.contains("gramme_"), "{expr}");
        }
    }
}
