//! Answers of a node as text for people. What an answer lacks is left out: it may be of another version.

use std::fmt::Write as _;

use serde_json::Value;

use crate::table::Table;

/// Members and everything that wants attention.
pub(super) fn status(answer: &Value) -> String {
    let mut text = String::new();
    if answer.get("cluster").is_some() {
        let _ = writeln!(
            text,
            "cluster {}  epoch {}  layout {}  {} partitions of {} replicas",
            word(answer, "cluster"),
            word(answer, "epoch"),
            word(answer, "layout"),
            word(answer, "partitions"),
            word(answer, "replicas"),
        );
    }
    let standing = word(answer, "standing");
    if standing != "member" {
        let _ = writeln!(text, "this node ({}): {standing}", word(answer, "node"));
    }
    let mut table = Table::new(&[
        "", "name", "id", "zone", "address", "state", "alive", "held", "target", "pending",
    ]);
    for member in list(answer, "members") {
        table.row(vec![
            if is(member, "is_me") { "*" } else { "" }.into(),
            word(member, "name"),
            word(member, "id"),
            word(member, "zone"),
            word(member, "listen"),
            word(member, "state"),
            if is(member, "is_alive") { "yes" } else { "NO" }.into(),
            word(member, "held"),
            word(member, "target"),
            word(member, "pending"),
        ]);
    }
    if !table.is_empty() {
        text.push_str(&table.text());
    }
    text.push_str(&background(answer));
    text.push_str(&staged(answer));
    section(&mut text, "warnings", list(answer, "warnings"));
    let reports: Vec<Value> = list(answer, "reports")
        .iter()
        .map(|report| report.get("text").cloned().unwrap_or_default())
        .collect();
    section(&mut text, "reports", &reports);
    text
}

/// What this node's background has done and has yet to do.
fn background(answer: &Value) -> String {
    let Some(background) = answer.get("background").filter(|all| all.is_object()) else {
        return String::new();
    };
    let number = |of: &Value, field: &str| of.get(field).and_then(Value::as_u64);
    let mut table = Table::new(&["background", "left", "done", "a second", "time left"]);
    for kind in [
        "hints",
        "transfers",
        "handovers",
        "comparisons",
        "tombstones",
    ] {
        let Some(work) = background.get(kind) else {
            continue;
        };
        let milli = number(work, "milli_per_s").unwrap_or_default();
        table.row(vec![
            kind.into(),
            word(work, "left"),
            word(work, "done"),
            format!("{}.{}", milli / 1000, milli % 1000 / 100),
            number(work, "seconds_left").map_or_else(|| "unknown".into(), time),
        ]);
    }
    let mut text = table.text();
    let _ = writeln!(
        text,
        "at most {} a second now; slowed {} times for clients, whose p99.9 is {} ms",
        bytes(background.get("bytes_per_s")),
        word(background, "cuts"),
        number(background, "foreground_p999_us").map_or(0.0, |us| us as f64 / 1000.0),
    );
    text
}

fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

fn staged(answer: &Value) -> String {
    let mut text = String::new();
    let staged = list(answer, "staged");
    if !staged.is_empty() {
        text.push_str("staged\n");
    }
    for change in staged {
        let old = change.get("old").and_then(Value::as_str);
        let _ = match old {
            Some(old) => writeln!(text, "  {} replaces {old}", word(change, "node")),
            None => writeln!(
                text,
                "  {} {}",
                word(change, "change"),
                word(change, "node")
            ),
        };
    }
    text
}

/// Sums for each node, or every partition.
pub(super) fn ring(answer: &Value, all: bool) -> String {
    let nodes = list(answer, "nodes");
    let table = list(answer, "table");
    let mut text = format!(
        "cluster {}  epoch {}  layout {}  {} partitions of {} replicas\n",
        word(answer, "cluster"),
        word(answer, "epoch"),
        word(answer, "layout"),
        table.len(),
        word(answer, "replicas"),
    );
    let name_of = |place: &Value| {
        let node = place
            .as_u64()
            .and_then(|place| nodes.get(usize::try_from(place).ok()?));
        node.map_or_else(|| "?".into(), |node| word(node, "name"))
    };
    if all {
        let mut rows = Table::new(&["partition", "targets", "readers", "pending", "draining"]);
        for (partition, row) in table.iter().enumerate() {
            let names = |field: &str| {
                let names: Vec<String> = list(row, field).iter().map(name_of).collect();
                names.join(" ")
            };
            rows.row(vec![
                partition.to_string(),
                names("targets"),
                names("readers"),
                names("pending"),
                names("draining"),
            ]);
        }
        text.push_str(&rows.text());
        return text;
    }
    let mut rows = Table::new(&[
        "name", "id", "zone", "address", "shards", "first", "targets", "reads", "pending",
        "draining",
    ]);
    for (place, node) in nodes.iter().enumerate() {
        let place = Value::from(place);
        let count = |field: &str| {
            let with = |row: &&Value| list(row, field).contains(&place);
            table.iter().filter(with).count().to_string()
        };
        let is_first = |row: &&Value| list(row, "targets").first() == Some(&place);
        rows.row(vec![
            word(node, "name"),
            word(node, "id"),
            word(node, "zone"),
            word(node, "listen"),
            word(node, "shards"),
            table.iter().filter(is_first).count().to_string(),
            count("targets"),
            count("readers"),
            count("pending"),
            count("draining"),
        ]);
    }
    text.push_str(&rows.text());
    text.push_str("--all shows every partition\n");
    text
}

/// What would move, and every warning.
pub(super) fn plan(answer: &Value) -> String {
    let mut text = format!("plan {}\n", word(answer, "plan"));
    text.push_str(&staged(answer));
    let mut rows = Table::new(&[
        "name", "id", "zone", "before", "after", "fetches", "lets go", "bytes",
    ]);
    for node in list(answer, "nodes") {
        rows.row(vec![
            word(node, "name"),
            word(node, "id"),
            word(node, "zone"),
            word(node, "before"),
            word(node, "after"),
            word(node, "gained"),
            word(node, "lost"),
            bytes(node.get("bytes")),
        ]);
    }
    text.push_str(&rows.text());
    let mut zones = Table::new(&["zone", "fetches", "lets go"]);
    for zone in list(answer, "zones") {
        zones.row(vec![
            word(zone, "zone"),
            word(zone, "gained"),
            word(zone, "lost"),
        ]);
    }
    if !zones.is_empty() {
        text.push_str(&zones.text());
    }
    let _ = writeln!(
        text,
        "{} replicas move ({}), at least {} must",
        word(answer, "moves"),
        bytes(answer.get("bytes")),
        word(answer, "moves_min"),
    );
    section(&mut text, "warnings", list(answer, "warnings"));
    text.push_str("gramme cluster commit does it, gramme cluster abort drops what is staged\n");
    text
}

/// The buckets, or the one that was set.
pub(super) fn buckets(answer: &Value, name: Option<&str>) -> String {
    let mut rows = Table::new(&[
        "bucket",
        "n",
        "r",
        "w",
        "durability",
        "conflict",
        "blind put",
        "ttl ms",
    ]);
    for bucket in list(answer, "buckets") {
        if name.is_some_and(|name| word(bucket, "name") != name) {
            continue;
        }
        let ttl_ms = match bucket.get("ttl_ms") {
            None | Some(Value::Null) => "never".into(),
            Some(ttl_ms) => ttl_ms.to_string(),
        };
        rows.row(vec![
            word(bucket, "name"),
            word(bucket, "n"),
            word(bucket, "r"),
            word(bucket, "w"),
            word(bucket, "durability"),
            word(bucket, "conflict"),
            word(bucket, "blind_put"),
            ttl_ms,
        ]);
    }
    let mut text = rows.text();
    if let Some(warning) = answer.get("warning").and_then(Value::as_str) {
        let _ = writeln!(text, "{warning}");
    }
    text
}

/// What was done, and what is staged now.
pub(super) fn done(answer: &Value) -> String {
    let mut text = word(answer, "done");
    text.push('\n');
    text.push_str(&staged(answer));
    text
}

fn section(text: &mut String, title: &str, lines: &[Value]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "{title}");
    for line in lines {
        let _ = writeln!(text, "  {}", line.as_str().unwrap_or_default());
    }
}

fn list<'a>(of: &'a Value, field: &str) -> &'a [Value] {
    of.get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn word(of: &Value, field: &str) -> String {
    match of.get(field) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(word)) => word.clone(),
        Some(value) => value.to_string(),
    }
}

fn is(of: &Value, field: &str) -> bool {
    of.get(field).and_then(Value::as_bool) == Some(true)
}

fn bytes(value: Option<&Value>) -> String {
    let Some(bytes) = value.and_then(Value::as_u64) else {
        return "unknown".into();
    };
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}
