//! The counters of all shards as Prometheus text. The names and their help here are their documentation.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gramme_core::port::WorkProgress;
use gramme_core::shard::{ShardStatus, WriteState};

use super::Seen;
use crate::reactor::Counters;

type Read = fn(&ShardStatus) -> u64;

/// What is not known: `+Inf` as Prometheus says it, null in JSON.
pub(super) const UNKNOWN: u64 = u64::MAX;

fn seconds_left(work: &WorkProgress) -> u64 {
    work.seconds_left.unwrap_or(UNKNOWN)
}

/// Name without `gramme_`, what it is, how it is read. Those that end in `_total` only grow.
pub(super) const METRICS: &[(&str, &str, Read)] = &[
    (
        "writes_open",
        "1 when writes are taken, 0 when not (disk full, read-only).",
        |s| u64::from(s.writes == WriteState::Open),
    ),
    ("keys", "Keys with a value.", |s| s.keys),
    ("tombstones", "Tombstones that wait to be reaped.", |s| {
        s.tombstones
    }),
    ("index_bytes", "RAM of the index.", |s| s.index_bytes),
    ("tail_bytes", "RAM of the log's tail.", |s| s.tail_bytes),
    ("cache_bytes", "RAM of the value cache.", |s| s.cache_bytes),
    ("live_bytes", "Bytes of live records.", |s| s.live_bytes),
    ("used_bytes", "Bytes of the segments in use.", |s| {
        s.used_bytes
    }),
    ("capacity_bytes", "Bytes that the segments may take.", |s| {
        s.capacity_bytes
    }),
    ("requests_waiting", "Requests that wait.", |s| {
        s.requests_waiting
    }),
    (
        "checkpoint_lag_bytes",
        "Log bytes since the last checkpoint.",
        |s| s.checkpoint_lag_bytes,
    ),
    (
        "damaged_places",
        "Places of the log that are damaged, until their segments are given back.",
        |s| s.damage.len() as u64,
    ),
    (
        "damage_unrepaired",
        "What of it is not brought back: keys, partitions of which something is lost, segments; 0 when nothing is unknown.",
        |s| s.damage_unrepaired,
    ),
    (
        "segments_quarantined",
        "Segments kept as they are, since something live in them does not verify or something of them is unknown.",
        |s| s.segments_quarantined,
    ),
    (
        "hints_pending",
        "Hints that are to be delivered, those among them that a full disk has no room for.",
        |s| s.hints_pending,
    ),
    (
        "transfers",
        "Partitions whose slice is to be brought up from others.",
        |s| s.transfers,
    ),
    (
        "transfers_done",
        "Those of them that are whole here already.",
        |s| s.transfers_done,
    ),
    (
        "handovers",
        "Partitions that are to be handed over to others.",
        |s| s.handovers,
    ),
    (
        "background_bytes_per_s",
        "Bytes a second that the background may move now.",
        |s| s.background_bytes_per_s,
    ),
    (
        "background_share_permille",
        "The same in thousandths of its greatest rate; the cleaner and checkpoints have this share of rates of their own.",
        |s| s.background_share_permille,
    ),
    (
        "background_cuts_total",
        "How often the background was slowed down, since clients' p99.9 came near sla_p999.",
        |s| s.background_cuts,
    ),
    (
        "background_excuses_total",
        "How often that did not help for two seconds, so that the p99.9 was held to have another cause.",
        |s| s.background_excuses,
    ),
    (
        "foreground_p999_us",
        "The p99.9 of clients' requests in the last second, in microseconds, as the background's pace is set by it.",
        |s| s.foreground_p999_us,
    ),
    (
        "hints_milli_per_s",
        "Hints delivered of late, thousandths a second.",
        |s| s.progress.hints.milli_per_s,
    ),
    (
        "hints_seconds_left",
        "How long the hints that wait will take at this rate; +Inf where nothing was done of late.",
        |s| seconds_left(&s.progress.hints),
    ),
    (
        "transfers_milli_per_s",
        "Partitions gained of late, thousandths a second.",
        |s| s.progress.transfers.milli_per_s,
    ),
    (
        "transfers_seconds_left",
        "How long the partitions to be gained will take at this rate; +Inf where nothing was done of late.",
        |s| seconds_left(&s.progress.transfers),
    ),
    (
        "handovers_milli_per_s",
        "Partitions handed over of late, thousandths a second.",
        |s| s.progress.handovers.milli_per_s,
    ),
    (
        "handovers_seconds_left",
        "How long the partitions to be handed over will take at this rate; +Inf where nothing was done of late.",
        |s| seconds_left(&s.progress.handovers),
    ),
    (
        "comparisons_milli_per_s",
        "Partitions compared with another replica of late, thousandths a second.",
        |s| s.progress.comparisons.milli_per_s,
    ),
    (
        "comparisons_seconds_left",
        "How long the rest of this round of comparisons will take at this rate; +Inf where nothing was done of late.",
        |s| seconds_left(&s.progress.comparisons),
    ),
    (
        "tombstones_milli_per_s",
        "Tombstones reaped of late, thousandths a second.",
        |s| s.progress.tombstones.milli_per_s,
    ),
    (
        "tombstones_seconds_left",
        "How long the tombstones that wait will take at this rate; +Inf where nothing was done of late.",
        |s| seconds_left(&s.progress.tombstones),
    ),
    (
        "comparisons_left",
        "Pairs of a partition and another replica that this round has yet to compare.",
        |s| s.progress.comparisons.left,
    ),
    (
        "repair_round_ms",
        "How long the last whole round of comparisons took, in milliseconds.",
        |s| s.repair_round_ms,
    ),
    (
        "hints_failed_total",
        "Deliveries of hints that were refused or not answered; each is tried again.",
        |s| s.hints_failed,
    ),
    (
        "hints_lost_total",
        "Hints given up: what was kept is damaged here and no replica has that version; acknowledged writes may be lost.",
        |s| s.hints_lost,
    ),
    (
        "comparisons_total",
        "Partitions compared with another replica.",
        |s| s.comparisons,
    ),
    ("hints_delivered_total", "Hints delivered.", |s| {
        s.hints_delivered
    }),
    (
        "upkeep_pulled_bytes_total",
        "Bytes of records that came from others in the background.",
        |s| s.upkeep_pulled_bytes,
    ),
    (
        "upkeep_pushed_bytes_total",
        "Bytes of records that went to others in the background.",
        |s| s.upkeep_pushed_bytes,
    ),
    (
        "repairs_total",
        "Records that replicas which should have been equal lacked.",
        |s| s.repairs,
    ),
    (
        "repair_rounds_total",
        "Whole rounds of comparisons with the other replicas; one in which there was nobody to compare with is none.",
        |s| s.repair_rounds,
    ),
    (
        "repair_rounds_with_repairs_total",
        "Those of them in which replicas differed.",
        |s| s.repair_rounds_with_repairs,
    ),
    ("gets_total", "Gets served.", |s| s.gets),
    ("puts_total", "Puts and deletes accepted.", |s| s.puts),
    ("disk_reads_total", "Gets that needed the disk.", |s| {
        s.disk_reads
    }),
    ("commits_total", "Group commits.", |s| s.commits),
    (
        "written_bytes_total",
        "Bytes written to the log by clients' writes.",
        |s| s.written_bytes,
    ),
    (
        "cleaned_bytes_total",
        "Bytes that the cleaner copied forward.",
        |s| s.cleaned_bytes,
    ),
    (
        "scrubbed_bytes_total",
        "Bytes that were read at rest, to see whether they are whole.",
        |s| s.scrubbed_bytes,
    ),
    (
        "scrubs_total",
        "Whole passes through what lies on the disk.",
        |s| s.scrubs,
    ),
    (
        "checkpoint_bytes_total",
        "Bytes of checkpoints written.",
        |s| s.checkpoint_bytes,
    ),
    (
        "segments_freed_total",
        "Segments freed by the cleaner.",
        |s| s.segments_freed,
    ),
    ("tombstones_reaped_total", "Tombstones reaped.", |s| {
        s.tombstones_reaped
    }),
    (
        "shed_total",
        "Requests refused since the shard was overloaded.",
        |s| s.shed,
    ),
    (
        "deadlines_missed_total",
        "Requests dropped because their deadline had passed.",
        |s| s.deadlines_missed,
    ),
    (
        "read_faults_total",
        "Failed reads, and records that did not verify.",
        |s| s.read_faults,
    ),
    (
        "scan_unreadable_total",
        "Records that walks over the keys passed over, since they could not be read.",
        |s| s.scan_unreadable,
    ),
    ("write_faults_total", "Failed writes.", |s| s.write_faults),
    (
        "context_entries_dropped_total",
        "Vector entries dropped from contexts that were too long.",
        |s| s.context_entries_dropped,
    ),
    ("clocks_refused_total", "Remote times refused.", |s| {
        s.clocks_refused
    }),
    (
        "coordinated_writes_total",
        "Writes that this shard coordinated among replicas.",
        |s| s.coordinated_writes,
    ),
    (
        "coordinated_reads_total",
        "Reads that this shard coordinated among replicas.",
        |s| s.coordinated_reads,
    ),
    (
        "forwarded_total",
        "Requests handed to a node that holds the key.",
        |s| s.forwarded,
    ),
    (
        "writes_in_doubt_total",
        "Writes that missed their quorum.",
        |s| s.writes_in_doubt,
    ),
    (
        "reads_failed_total",
        "Reads that missed their quorum.",
        |s| s.reads_failed,
    ),
    (
        "stand_ins_total",
        "Writes that a stand-in was asked to take.",
        |s| s.stand_ins,
    ),
    (
        "hedges_total",
        "Reads that asked one more replica, since one was slow.",
        |s| s.hedges,
    ),
    (
        "digests_differed_total",
        "Reads whose replicas differed.",
        |s| s.digests_differed,
    ),
    (
        "read_repairs_total",
        "Objects that a read wrote back.",
        |s| s.read_repairs,
    ),
    (
        "hints_kept_total",
        "Hints kept for nodes that are away.",
        |s| s.hints_kept,
    ),
];

type ReadNetwork = fn(&Counters) -> &AtomicU64;

/// As `METRICS`, of the network of the whole node.
pub(super) const NETWORK: &[(&str, &str, ReadNetwork)] = &[
    ("connections", "Connections that are open.", |c| {
        &c.connections
    }),
    ("connections_accepted_total", "Connections accepted.", |c| {
        &c.accepted
    }),
    (
        "connections_refused_total",
        "Connections refused since there were as many as allowed.",
        |c| &c.refused,
    ),
    (
        "accept_failures_total",
        "Accepts that failed, for want of file descriptors, say.",
        |c| &c.accept_failures,
    ),
    (
        "connections_closed_unread_total",
        "Connections closed since their client did not read.",
        |c| &c.closed_unread,
    ),
    (
        "connections_closed_input_total",
        "Connections closed since their unfinished input was too much.",
        |c| &c.closed_input,
    ),
    (
        "connections_closed_strangers_total",
        "Connections closed since they said no password in time, or their handshake took too long.",
        |c| &c.closed_strangers,
    ),
    (
        "tls_failures_total",
        "Connections ended since the other side's TLS was none, or its certificate not of the authority.",
        |c| &c.tls_failures,
    ),
    (
        "certificate_ends_seconds",
        "When the node's certificate runs out, in seconds since 1970; 0 without TLS.",
        |c| &c.certificate_ends_s,
    ),
    ("received_bytes_total", "Bytes received.", |c| {
        &c.received_bytes
    }),
    ("sent_bytes_total", "Bytes sent.", |c| &c.sent_bytes),
    (
        "peer_messages_sent_total",
        "Messages handed to connections to other nodes.",
        |c| &c.peers.sent,
    ),
    (
        "peer_messages_received_total",
        "Messages of other nodes handed on to a shard.",
        |c| &c.peers.received,
    ),
    (
        "peer_connections_opened_total",
        "Connections between nodes on which both sides said who they are.",
        |c| &c.peers.opened,
    ),
    (
        "peer_connections_failed_total",
        "Tries to reach another node that failed.",
        |c| &c.peers.failed,
    ),
    (
        "peer_connections_refused_total",
        "Connections between nodes that were refused: of another cluster, or not the node that was wanted.",
        |c| &c.peers.refused,
    ),
    (
        "peer_messages_dropped_full_total",
        "Messages dropped since too much waited for their node.",
        |c| &c.peers.dropped_full,
    ),
    (
        "peer_messages_dropped_unreachable_total",
        "Messages dropped since their node could not be reached.",
        |c| &c.peers.dropped_unreachable,
    ),
    (
        "peer_messages_dropped_old_total",
        "Objects dropped on arrival since they were older than 30 s: a clock that is off, or a network that stood still.",
        |c| &c.peers.dropped_old,
    ),
    (
        "peer_messages_dropped_unknown_total",
        "Messages dropped on arrival: for a shard that there is not, or of a kind that is not known.",
        |c| &c.peers.dropped_unknown,
    ),
    (
        "peer_messages_dropped_long_total",
        "Messages dropped since they are longer than a frame may be; such a key is not replicated.",
        |c| &c.peers.dropped_long,
    ),
    (
        "peer_bad_frames_total",
        "Connections between nodes ended by bytes that are not frames.",
        |c| &c.peers.bad_frames,
    ),
];

const STAGES_HELP: &str = "How long clients' requests were in each stage: the loop's turns (queue, index, memory, reply), \
                           a read from the disk, the commit of a durable write, other replicas. A request is in several.";

/// The page.
pub(super) fn text(seen: Option<&Seen>, network: &Counters, uptime: Duration) -> String {
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = text.write_fmt(args);
        text.push('\n');
    };
    line(format_args!(
        "# HELP gramme_uptime_seconds Since the process started."
    ));
    line(format_args!("# TYPE gramme_uptime_seconds gauge"));
    line(format_args!(
        "gramme_uptime_seconds {:.3}",
        uptime.as_secs_f64()
    ));
    for (name, help, read) in NETWORK {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        line(format_args!("# HELP gramme_{name} {help}"));
        line(format_args!("# TYPE gramme_{name} {kind}"));
        line(format_args!(
            "gramme_{name} {}",
            read(network).load(Ordering::Relaxed)
        ));
    }
    let shards = seen.map_or(&[][..], |seen| &seen.shards);
    line(format_args!(
        "# HELP gramme_shard_up 1 when the shard answers."
    ));
    line(format_args!("# TYPE gramme_shard_up gauge"));
    for (shard, status) in shards.iter().enumerate() {
        line(format_args!(
            "gramme_shard_up{{shard=\"{shard}\"}} {}",
            u8::from(status.is_some())
        ));
    }
    line(format_args!("# HELP gramme_stage_seconds {STAGES_HELP}"));
    line(format_args!("# TYPE gramme_stage_seconds histogram"));
    for (shard, status) in shards.iter().enumerate() {
        for (stage, times) in status.iter().flat_map(|status| status.stages.iter()) {
            let labels = format!("shard=\"{shard}\",stage=\"{}\"", stage.name());
            for (bound_ns, requests) in times.cumulative() {
                let bound = bound_ns.map_or("+Inf".to_owned(), |ns| (ns as f64 / 1e9).to_string());
                line(format_args!(
                    "gramme_stage_seconds_bucket{{{labels},le=\"{bound}\"}} {requests}"
                ));
            }
            line(format_args!(
                "gramme_stage_seconds_sum{{{labels}}} {}",
                times.sum_ns() as f64 / 1e9
            ));
            line(format_args!(
                "gramme_stage_seconds_count{{{labels}}} {}",
                times.requests()
            ));
        }
    }
    for (name, help, read) in METRICS {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        line(format_args!("# HELP gramme_{name} {help}"));
        line(format_args!("# TYPE gramme_{name} {kind}"));
        for (shard, status) in shards.iter().enumerate() {
            if let Some(status) = status {
                match read(status) {
                    UNKNOWN => line(format_args!("gramme_{name}{{shard=\"{shard}\"}} +Inf")),
                    value => line(format_args!("gramme_{name}{{shard=\"{shard}\"}} {value}")),
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_nobody_knows_is_infinite() {
        let mut status = ShardStatus::default();
        status.progress.hints.seconds_left = Some(12);
        let seen = Seen {
            shards: vec![Some(status)],
            failures: Vec::new(),
        };
        let text = text(Some(&seen), &Counters::default(), Duration::ZERO);
        assert!(text.contains("gramme_hints_seconds_left{shard=\"0\"} 12\n"));
        assert!(text.contains("gramme_transfers_seconds_left{shard=\"0\"} +Inf\n"));
    }

    #[test]
    fn every_shard_that_answers_has_every_series() {
        let status = ShardStatus {
            gets: 7,
            ..ShardStatus::default()
        };
        let seen = Seen {
            shards: vec![None, Some(status)],
            failures: Vec::new(),
        };
        let text = text(
            Some(&seen),
            &Counters::default(),
            Duration::from_millis(1500),
        );
        assert!(text.contains("gramme_uptime_seconds 1.500\n"));
        assert!(
            text.contains("gramme_shard_up{shard=\"0\"} 0\n")
                && text.contains("gramme_shard_up{shard=\"1\"} 1\n")
        );
        assert!(
            text.contains("# TYPE gramme_gets_total counter\ngramme_gets_total{shard=\"1\"} 7\n")
        );
        for (name, ..) in METRICS {
            assert!(
                !text.contains(&format!("gramme_{name}{{shard=\"0\"}}")),
                "a shard that is down says {name}"
            );
        }
    }
}
