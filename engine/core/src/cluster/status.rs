//! Status: what operators and programs are shown of a cluster, JSON. Changes nothing.

use serde_json::{Value, json};

use super::command::{change_name, state_name};
use super::machine::{Cluster, Standing};
use super::word::Refusal;
use crate::base::durability::Durability;
use crate::base::ids::NodeId;
use crate::base::time::Now;
use crate::port::{Progress, WorkProgress};
use crate::ring::{BucketView, Change, MemberState, Plan, Ring, Staged, Warning};
use crate::version::{BlindPut, Conflict};

impl Cluster {
    /// Everything that there is to know at a glance.
    pub(super) fn status(&self, now: Now) -> Value {
        let (gaining, draining) = self.progress.open();
        let mut shown = json!({
            "node": id(self.me),
            "name": self.facts.name,
            "zone": self.facts.zone,
            "standing": self.standing_name(),
            "start_count": self.start_count,
            "gaining": gaining,
            "draining": draining,
            "background": self.background().as_ref().map(background),
            "buckets": self.buckets.iter().map(bucket).collect::<Vec<_>>(),
            "staged": self.staged(),
            "plan": self.plan.as_ref().map(|plan| format!("{:016x}", plan.token())),
            "warnings": self.warnings(now),
            "reports": self.reports.iter().map(|report| json!({
                "at_ms": report.wall_ms,
                "text": report.text,
            })).collect::<Vec<_>>(),
        });
        let Some(ring) = &self.ring else {
            return shown;
        };
        let more = json!({
            "cluster": format!("{:016x}", ring.cluster()),
            "epoch": ring.epoch(),
            "layout": ring.layout().id().version,
            "partitions": ring.partitions().partitions(),
            "replicas": ring.layout().n(),
            "members": self.members(ring, now),
            "removed": ring.members().removed().map(id).collect::<Vec<_>>(),
        });
        if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
            shown.extend(more);
        }
        shown
    }

    fn standing_name(&self) -> String {
        if let (Some(clock), Standing::Member | Standing::Vouching { .. }) =
            (self.own_clock.trouble(), &self.standing)
        {
            return format!("refused: {clock}");
        }
        match &self.standing {
            Standing::Outside => "waits to be let in".into(),
            Standing::Vouching { .. } => "starting".into(),
            Standing::Member => "member".into(),
            Standing::Refused(Refusal::ClockAhead { .. }) => "refused: its clock is ahead".into(),
            Standing::Refused(Refusal::Removed) => "refused: its id was removed for good".into(),
            Standing::Refused(Refusal::Duplicate { address }) => {
                format!("refused: another process with its id is alive at {address}")
            }
            Standing::Refused(Refusal::OtherCluster { .. }) => "refused: of another cluster".into(),
            Standing::WrongPartitions { clusters } => format!(
                "refused: the cluster has {clusters} partitions, this directory {}",
                self.slices.partitions()
            ),
        }
    }

    /// Why this node takes no part in its cluster, and what to do; none while it does, or waits to be let in.
    pub fn trouble(&self) -> Option<String> {
        match &self.standing {
            Standing::Refused(refusal) => Some(refusal.in_words()),
            Standing::WrongPartitions { .. } => Some(self.standing_name()),
            Standing::Member | Standing::Vouching { .. } => self.own_clock.trouble(),
            Standing::Outside => None,
        }
    }

    fn members(&self, ring: &Ring, now: Now) -> Vec<Value> {
        let mut targets: std::collections::BTreeMap<NodeId, (u32, u32)> = Default::default();
        for partition in ring.partitions().iter() {
            for node in ring.layout().targets(partition) {
                let is_held = ring.held(node).is_some_and(|held| held.contains(partition));
                let counts = targets.entry(node).or_default();
                counts.0 += 1;
                counts.1 += u32::from(!is_held);
            }
        }
        ring.members()
            .iter()
            .map(|(node, member)| {
                let facts = member.facts();
                let (target, pending) = targets.get(&node).copied().unwrap_or_default();
                json!({
                    "id": id(node),
                    "name": facts.name,
                    "zone": facts.zone,
                    "listen": facts.listen,
                    "resp": facts.resp,
                    "admin": facts.admin,
                    "shards": facts.shards,
                    "weight": facts.weight,
                    "state": ring.state_of(node).map(state_name),
                    "is_alive": self.is_alive(node, now),
                    "is_me": node == self.me,
                    "heard_ms_ago": self.detector.heard_ago_ns(node, now.mono_ns).map(|ns| ns / 1_000_000),
                    "start_count": member.start_count(),
                    "held": ring.held(node).map_or(0, |held| held.count()),
                    "target": target,
                    "pending": pending,
                    "live_bytes": self.vitals.get(node).map(|vitals| vitals.live_bytes),
                    "capacity_bytes": self.vitals.get(node).map(|vitals| vitals.capacity_bytes),
                })
            })
            .collect()
    }

    fn warnings(&self, now: Now) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.progress.lost.is_empty() {
            warnings.push(format!(
                "parts of {} partitions are lost here and nobody else holds them",
                self.progress.lost.len()
            ));
        }
        for node in self.sightings.doubles() {
            warnings.push(format!("two processes have the id {node}"));
        }
        if self.garbage > 0 {
            warnings.push(format!(
                "{} messages of others were no gossip of this version",
                self.garbage
            ));
        }
        let Some(ring) = &self.ring else {
            return warnings;
        };
        let routes = ring.routes();
        let (mut nobody, mut moving, mut gone) = (0, 0, 0);
        for partition in ring.partitions().iter() {
            let route = routes.of(partition);
            let targets = ring.layout().targets(partition);
            gone += targets
                .filter(|node| ring.members().is_removed(*node))
                .count();
            let has_reader = route.readers().iter().any(|node| self.is_alive(*node, now));
            nobody += u32::from(!has_reader);
            moving += route.pending().len();
        }
        for (node, member) in ring.members().iter() {
            if !self.is_alive(node, now) {
                warnings.push(format!(
                    "{node} ({}) at {} seems to be down",
                    member.facts().name,
                    member.facts().listen
                ));
            }
            if self
                .vitals
                .get(node)
                .is_some_and(|vitals| !vitals.takes_writes)
            {
                warnings.push(format!(
                    "{node} ({}) takes no writes: its disk is full or failed",
                    member.facts().name
                ));
            }
            let has_left = ring.state_of(node) == Some(MemberState::Leaving)
                && ring.held(node).is_none_or(|held| held.is_empty());
            if has_left {
                warnings.push(format!(
                    "{node} has left and holds nothing more: gramme cluster leave {} --remove ends its membership",
                    id(node)
                ));
            }
        }
        if nobody > 0 {
            warnings.push(format!(
                "{nobody} partitions have no holder that seems alive"
            ));
        }
        if moving > 0 {
            warnings.push(format!("{moving} replicas are not at their target yet"));
        }
        if gone > 0 {
            // The layout that had replaced it lost against one from the other side of a split, and nothing is staged.
            warnings.push(format!(
                "{gone} replicas have no node, theirs was removed: gramme cluster plan, then commit"
            ));
        }
        if !ring.staged().is_empty() {
            warnings.push("changes are staged: gramme cluster plan, then commit".into());
        }
        warnings
    }

    /// Who has what, by partition; nodes are places in `nodes`.
    pub(super) fn ring_table(&self) -> Value {
        let Some(ring) = &self.ring else {
            return json!({ "epoch": 0, "nodes": [], "table": [] });
        };
        let nodes: Vec<NodeId> = ring.members().iter().map(|(node, _)| node).collect();
        let places = |of: &mut dyn Iterator<Item = NodeId>| -> Vec<usize> {
            of.filter_map(|node| nodes.binary_search(&node).ok())
                .collect()
        };
        let routes = ring.routes();
        let table: Vec<Value> = ring
            .partitions()
            .iter()
            .map(|partition| {
                let route = routes.of(partition);
                json!({
                    "targets": places(&mut ring.layout().targets(partition)),
                    "readers": places(&mut route.readers().iter().copied()),
                    "pending": places(&mut route.pending().iter().copied()),
                    "surplus": places(&mut route.surplus().iter().copied()),
                    "draining": places(&mut route.draining().iter().copied()),
                })
            })
            .collect();
        let shown: Vec<Value> = ring
            .members()
            .iter()
            .map(|(node, member)| {
                json!({
                    "id": id(node),
                    "name": member.facts().name,
                    "zone": member.facts().zone,
                    "listen": member.facts().listen,
                    "shards": member.facts().shards,
                })
            })
            .collect();
        json!({
            "cluster": format!("{:016x}", ring.cluster()),
            "epoch": ring.epoch(),
            "layout": ring.layout().id().version,
            "replicas": ring.layout().n(),
            "nodes": shown,
            "table": table,
        })
    }
}

/// An id as operators type it.
pub(super) fn id(node: NodeId) -> String {
    format!("{node}")
}

pub(super) fn staged(staged: Staged) -> Value {
    let old = match staged.change {
        Change::Replace { old } => Some(id(old)),
        Change::Join | Change::Leave => None,
    };
    json!({ "node": id(staged.node), "change": change_name(staged.change), "old": old })
}

/// How far the background of this node is.
fn background(progress: &Progress) -> Value {
    let of = |work: &WorkProgress| {
        json!({
            "done": work.done,
            "left": work.left,
            "milli_per_s": work.milli_per_s,
            "seconds_left": work.seconds_left,
        })
    };
    json!({
        "hints": of(&progress.hints),
        "transfers": of(&progress.transfers),
        "handovers": of(&progress.handovers),
        "comparisons": of(&progress.comparisons),
        "tombstones": of(&progress.tombstones),
        "bytes_per_s": progress.bytes_per_s,
        "bytes_moved": progress.bytes_moved,
        "foreground_p999_us": progress.p999_us,
        "cuts": progress.cuts,
    })
}

pub(super) fn bucket(rules: &BucketView) -> Value {
    json!({
        "name": String::from_utf8_lossy(&rules.name),
        "n": rules.n,
        "r": rules.r,
        "w": rules.w,
        "durability": match rules.durability {
            Durability::Buffered => "buffered",
            Durability::One => "one",
            Durability::All => "all",
        },
        "conflict": match rules.conflict {
            Conflict::Siblings => "siblings",
            Conflict::Lww => "lww",
            Conflict::Reject => "reject",
        },
        "blind_put": match rules.blind_put {
            BlindPut::Latest => "latest",
            BlindPut::Supersede => "supersede",
            BlindPut::Sibling => "sibling",
            BlindPut::Reject => "reject",
        },
        "ttl_ms": rules.ttl_ms,
    })
}

/// A plan as it is looked at before its commit.
pub(super) fn plan(ring: &Ring, plan: &Plan) -> Value {
    let report = plan.report();
    let bytes = |replicas: usize| {
        plan.partition_bytes()
            .map(|bytes| bytes.saturating_mul(replicas as u64))
    };
    let nodes: Vec<Value> = report
        .nodes
        .iter()
        .map(|node| {
            let facts = ring.members().get(node.node).map(|member| member.facts());
            json!({
                "id": id(node.node),
                "name": facts.map(|facts| facts.name.as_str()),
                "zone": facts.map(|facts| facts.zone.as_str()),
                "share": node.share,
                "before": node.before,
                "after": node.after,
                "gained": node.gained,
                "lost": node.lost,
                "bytes": bytes(node.gained),
            })
        })
        .collect();
    let zones: Vec<Value> = plan
        .zones()
        .iter()
        .map(|zone| json!({ "zone": zone.zone, "gained": zone.gained, "lost": zone.lost }))
        .collect();
    json!({
        "plan": format!("{:016x}", plan.token()),
        "staged": plan.staged().iter().copied().map(staged).collect::<Vec<_>>(),
        "moves": report.moves,
        "moves_min": report.moves_min,
        "imbalance": report.imbalance,
        "bytes": bytes(report.moves),
        "nodes": nodes,
        "zones": zones,
        "warnings": plan.warnings().iter().map(in_words).collect::<Vec<_>>(),
    })
}

fn in_words(warning: &Warning) -> String {
    match warning {
        Warning::FewerNodesThanReplicas { nodes, n } => {
            format!("{nodes} nodes for {n} replicas: partitions will have fewer")
        }
        Warning::FewerZonesThanReplicas { zones, n } => {
            format!("{zones} zones for {n} replicas: partitions will have two in one zone")
        }
        Warning::ZoneTooSmall {
            node,
            by_weight,
            replicas,
        } => format!(
            "{node} will have {replicas} replicas, {by_weight} by its weight: its zone has too few others"
        ),
        Warning::SuspectedGains { node, replicas } => {
            format!("{node} seems to be down and has {replicas} replicas to fetch")
        }
        Warning::NoHolderAlive { partitions } => {
            format!("{partitions} partitions that move have no holder that seems alive")
        }
        Warning::Unfinished { replicas } => {
            format!(
                "an earlier change is not finished: {replicas} replicas are not at their target yet"
            )
        }
        Warning::RemovedTarget { node } => {
            format!("{node} was removed and still has places: its replicas are made anew")
        }
        Warning::TooLittleSpace {
            node,
            needed_bytes,
            capacity_bytes,
        } => format!("{node} will need {needed_bytes} bytes and has {capacity_bytes}"),
    }
}
