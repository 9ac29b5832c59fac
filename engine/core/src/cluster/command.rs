//! Operators' commands: JSON in, JSON out.
//!
//! Owns the names of commands and their fields. What moves data takes two steps: changes are staged, a plan shows what
//! they would do, and only its commit does it. Every command may be given again after a lost answer: it then finds its
//! work done, and says so.
//!
//! ```text
//! {"command": "status" | "ring" | "plan" | "abort" | "repair"}
//! {"command": "join", "node": NODE | ADDRESS}     {"command": "leave", "node": NODE, "remove" | "lost": bool}
//! {"command": "replace", "old": NODE, "new": NODE}  {"command": "commit", "plan": TOKEN}
//! {"command": "buckets", "set": {"name": …, "n": …, "r": …, "w": …, "durability": …, "conflict": …, "blind_put": …,
//!  "ttl_ms": …}}
//! ```
//! A field that is not known is refused, not ignored: it could be the one that says not to do it. NODE is an id (or how it
//! begins), a name, or an address. Readers of answers ignore what they do not know. The answer has an `error` when nothing
//! was done, with `is_usage` when the command itself is wrong.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Out;
use super::buckets::{are_numbers_right, usual};
use super::machine::{Cluster, Standing};
use super::status;
use super::word::Word;
use crate::base::durability::Durability;
use crate::base::ids::NodeId;
use crate::base::limits::BUCKET_BYTES_MAX;
use crate::base::time::Now;
use crate::port::{Note, RequestId};
use crate::ring::RingError;
use crate::ring::{BucketView, Change, Circumstances, Heir, MemberError, MemberState, Plan, Ring};
use crate::version::{BlindPut, Conflict};

/// Why a command was not carried out.
pub(super) enum CommandError {
    /// The command is wrong in itself.
    Usage(String),
    /// It cannot be done now.
    Refused(String),
}

impl From<RingError> for CommandError {
    fn from(error: RingError) -> Self {
        Self::Refused(in_words(error))
    }
}

type Answer = Result<Value, CommandError>;

impl Cluster {
    /// An operator's command; the answer is in `out`.
    pub fn command(&mut self, now: Now, id: RequestId, command: &[u8], out: &mut Out) {
        let answer = match serde_json::from_slice::<Value>(command) {
            Ok(Value::Object(command)) => self.obey(now, &command, out),
            Ok(_) | Err(_) => Err(CommandError::Usage("a command is a JSON object".into())),
        };
        let answer = answer.unwrap_or_else(|error| match error {
            CommandError::Usage(what) => json!({ "error": what, "is_usage": true }),
            CommandError::Refused(what) => json!({ "error": what }),
        });
        out.answers.push((id, answer.to_string().into_bytes()));
        self.settle(now, out);
    }

    fn obey(&mut self, now: Now, command: &Map<String, Value>, out: &mut Out) -> Answer {
        let name = text(command, "command")?;
        only_known_fields(name, command)?;
        match name {
            "status" => return Ok(self.status(now)),
            "ring" => return Ok(self.ring_table()),
            "join" if self.ring.is_none() => return self.join_seed(now, command),
            "buckets" => return self.set_bucket(now, command),
            "join" | "leave" | "replace" | "plan" | "commit" | "abort" | "repair" => {}
            other => {
                return Err(CommandError::Usage(format!(
                    "no command `{other}`; there are status, ring, join, leave, replace, plan, commit, abort, repair, \
                     buckets"
                )));
            }
        }
        if self.is_refused() || self.ring.is_none() {
            return Err(CommandError::Refused(
                "this node is in no cluster; see `gramme cluster status` here".into(),
            ));
        }
        match name {
            "join" => self.join(now, command, out),
            "leave" => self.leave(now, command, out),
            "replace" => self.replace(now, command),
            "plan" => self.make_plan(now),
            "commit" => self.commit(now, command),
            "abort" => self.abort(now),
            _ => {
                out.notes.push(Note::CompareAll);
                Ok(
                    json!({ "done": "every partition of this node is being compared with its other replicas" }),
                )
            }
        }
    }

    /// A node that waits outside gets one more address to ask.
    fn join_seed(&mut self, _now: Now, command: &Map<String, Value>) -> Answer {
        let seed = text(command, "node")?;
        if !seed.contains(':') {
            return Err(CommandError::Usage(
                "this node is in no cluster: name the address (HOST:PORT) of a node of the cluster to join".into(),
            ));
        }
        if self.standing == Standing::Outside && !self.seeds.iter().any(|known| known == seed) {
            self.seeds.push(seed.to_owned());
        }
        Ok(json!({ "done": format!("this node asks {seed} to be let in") }))
    }

    fn join(&mut self, now: Now, command: &Map<String, Value>, out: &mut Out) -> Answer {
        let wanted = text(command, "node")?;
        let node = match self.find(wanted) {
            Ok(node) => node,
            Err(_) if wanted.contains(':') => {
                let hello = Word::Hello(self.facts.clone());
                let bytes = super::word::encode(&self.sender(now), &hello);
                out.hails.push((wanted.to_owned(), bytes));
                return Err(CommandError::Refused(format!(
                    "no node of this cluster has the address {wanted}; start it with `gramme serve --join {}`, then it \
                     is known here and staged by itself",
                    self.facts.listen
                )));
            }
            Err(error) => return Err(error),
        };
        let stamp = self.stamp(now);
        let done = match self.ring_mut()?.stage_join(node, stamp) {
            Ok(()) => format!("{node} is staged to join; next: gramme cluster plan"),
            Err(RingError::AlreadyJoined(_)) => format!("{node} is in the cluster already"),
            Err(error) => return Err(error.into()),
        };
        self.has_news(now);
        Ok(json!({ "done": done, "staged": self.staged() }))
    }

    fn leave(&mut self, now: Now, command: &Map<String, Value>, out: &mut Out) -> Answer {
        let node = self.find(text(command, "node")?)?;
        let has = |flag: &str| command.get(flag).and_then(Value::as_bool) == Some(true);
        let stamp = self.stamp(now);
        let has_shown_all = has("lost") || !has("remove") || self.has_shown_all(now, node, out);
        let ring = self.ring_mut()?;
        let done = if ring.layout().contains(node) {
            ring.stage_leave(node, stamp)?;
            format!("{node} is staged to leave; next: gramme cluster plan")
        } else if has("lost") || has("remove") {
            if has("lost") {
                ring.remove_lost(node)?;
            } else if has_shown_all || ring.held(node).is_some_and(|held| !held.is_empty()) {
                ring.remove(node)?;
            } else {
                return Err(CommandError::Refused(format!(
                    "{node} has not told this node yet that it holds nothing by the newest layout; ask again in a moment, or \
                     say --lost if it is gone for good"
                )));
            }
            self.detector.forget(node);
            self.sightings.forget(node);
            format!("{node} is removed for good")
        } else {
            format!(
                "{node} has no places; what it still holds it brings to the others; --remove ends its membership for good"
            )
        };
        self.has_news(now);
        Ok(json!({ "done": done, "staged": self.staged() }))
    }

    fn replace(&mut self, now: Now, command: &Map<String, Value>) -> Answer {
        let heir = Heir {
            old: self.find(text(command, "old")?)?,
            new: self.find(text(command, "new")?)?,
        };
        let stamp = self.stamp(now);
        self.ring_mut()?.stage_replace(heir, stamp)?;
        self.has_news(now);
        let done = format!(
            "{} is staged to take the places of {}; next: gramme cluster plan",
            heir.new, heir.old
        );
        Ok(json!({ "done": done, "staged": self.staged() }))
    }

    fn make_plan(&mut self, now: Now) -> Answer {
        let suspected: BTreeSet<NodeId> = self
            .others()
            .filter(|node| !self.is_alive(*node, now))
            .collect();
        let circumstances = Circumstances {
            suspected,
            n: Some(self.buckets.n_max()),
            space: self.vitals.space(),
        };
        let ring = self.ring_mut()?;
        let plan = ring.plan(&circumstances)?;
        let shown = status::plan(ring, &plan);
        self.plan = Some(plan);
        Ok(shown)
    }

    fn commit(&mut self, now: Now, command: &Map<String, Value>) -> Answer {
        let named = match command.get("plan") {
            None | Some(Value::Null) => None,
            Some(token) => Some(
                token
                    .as_str()
                    .and_then(|token| u64::from_str_radix(token, 16).ok())
                    .ok_or_else(|| CommandError::Usage("`plan` is what `plan` printed".into()))?,
            ),
        };
        let plan = match (&self.plan, named) {
            (Some(plan), None) => plan.clone(),
            (Some(plan), Some(token)) if plan.token() == token => plan.clone(),
            (_, Some(token)) => {
                // Shown by another node: the same ring gives the same plan here.
                let plan = self.plan_anew(now)?;
                if plan.token() != token {
                    return Err(RingError::PlanIsStale.into());
                }
                plan
            }
            (None, None) => {
                return Err(CommandError::Refused(
                    "nothing is planned; look at `gramme cluster plan` first".into(),
                ));
            }
        };
        let stamp = self.stamp(now);
        let id = self.ring_mut()?.commit(&plan, stamp)?;
        self.plan = None;
        self.has_news(now);
        Ok(json!({
            "done": format!(
                "layout {} is committed; {} replicas move in the background, see gramme cluster status",
                id.version,
                plan.report().moves
            ),
            "layout": id.version,
            "moves": plan.report().moves,
        }))
    }

    fn plan_anew(&mut self, _now: Now) -> Result<Plan, CommandError> {
        let circumstances = Circumstances {
            n: Some(self.buckets.n_max()),
            ..Circumstances::default()
        };
        Ok(self.ring_mut()?.plan(&circumstances)?)
    }

    fn abort(&mut self, now: Now) -> Answer {
        let writer = self.me;
        let dropped = self.ring_mut()?.abort(writer)?;
        self.plan = None;
        self.has_news(now);
        let done = format!("{} staged changes are dropped", dropped.len());
        let dropped: Vec<Value> = dropped.into_iter().map(status::staged).collect();
        Ok(json!({ "done": done, "dropped": dropped }))
    }

    fn set_bucket(&mut self, now: Now, command: &Map<String, Value>) -> Answer {
        if let Some(set) = command.get("set") {
            let Value::Object(set) = set else {
                return Err(CommandError::Usage("`set` is a JSON object".into()));
            };
            let name = text(set, "name")?.as_bytes();
            if name.is_empty() || name.len() > BUCKET_BYTES_MAX {
                return Err(CommandError::Usage(format!(
                    "a bucket's name has 1 to {BUCKET_BYTES_MAX} bytes"
                )));
            }
            let before = self.buckets.get(name).cloned();
            let rules = rules(before.unwrap_or_else(|| usual(name)), set)?;
            let stamp = self.stamp(now);
            if !self.buckets.set(rules, stamp) {
                return Err(CommandError::Refused("there are too many buckets".into()));
            }
            self.has_news(now);
        }
        let width = self.ring.as_ref().map(|ring| ring.layout().n());
        let buckets: Vec<Value> = self.buckets.iter().map(status::bucket).collect();
        let n_max = self.buckets.n_max();
        let warning = width.filter(|n| n_max > *n).map(|n| {
            format!(
                "a bucket asks for {n_max} replicas, partitions have {n}: see gramme cluster plan"
            )
        });
        Ok(json!({ "buckets": buckets, "warning": warning }))
    }

    pub(super) fn staged(&self) -> Vec<Value> {
        let staged = self.ring.as_ref().map(Ring::staged).unwrap_or_default();
        staged.into_iter().map(status::staged).collect()
    }

    fn ring_mut(&mut self) -> Result<&mut Ring, CommandError> {
        self.ring
            .as_mut()
            .ok_or_else(|| CommandError::Refused("this node is in no cluster".into()))
    }

    /// A node by its id, how that begins, its name or its address.
    fn find(&self, wanted: &str) -> Result<NodeId, CommandError> {
        let Some(ring) = &self.ring else {
            return Err(CommandError::Refused("this node is in no cluster".into()));
        };
        let id = wanted
            .strip_prefix('n')
            .unwrap_or(wanted)
            .to_ascii_lowercase();
        let is_hex = !id.is_empty() && id.chars().all(|letter| letter.is_ascii_hexdigit());
        let named = |(node, member): &(NodeId, &crate::ring::Member)| {
            let facts = member.facts();
            let is_id = is_hex && format!("{:016x}", node.0).starts_with(&id);
            let is_address = [&facts.listen, &facts.resp, &facts.admin]
                .into_iter()
                .any(|address| address == wanted);
            is_id || is_address
        };
        let by_name: Vec<NodeId> = ring
            .members()
            .iter()
            .filter(|(_, member)| member.facts().name == wanted)
            .map(|(node, _)| node)
            .collect();
        let by_id: Vec<NodeId> = ring
            .members()
            .iter()
            .filter(named)
            .map(|(node, _)| node)
            .collect();
        let found = if by_name.is_empty() { by_id } else { by_name };
        match found.as_slice() {
            [node] => Ok(*node),
            [] => Err(CommandError::Refused(format!(
                "no node `{wanted}`; `gramme cluster status` shows ids, names and addresses"
            ))),
            several => Err(CommandError::Usage(format!(
                "`{wanted}` names {} nodes; use the id",
                several.len()
            ))),
        }
    }
}

/// Refuses a command of a later version that says more than this one would do.
fn only_known_fields(name: &str, command: &Map<String, Value>) -> Result<(), CommandError> {
    let known: &[&str] = match name {
        "join" => &["node"],
        "leave" => &["node", "remove", "lost"],
        "replace" => &["old", "new"],
        "commit" => &["plan"],
        "buckets" => &["set"],
        _ => &[],
    };
    let is_known = |field: &&String| *field == "command" || known.contains(&field.as_str());
    match command.keys().find(|field| !is_known(field)) {
        None => Ok(()),
        Some(field) => Err(CommandError::Usage(format!(
            "`{name}` has no `{field}` in this node's release; is the node older than what asks it?"
        ))),
    }
}

fn text<'a>(command: &'a Map<String, Value>, field: &str) -> Result<&'a str, CommandError> {
    command
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| CommandError::Usage(format!("`{field}` is missing")))
}

/// The rules with those that are named changed.
fn rules(mut rules: BucketView, set: &Map<String, Value>) -> Result<BucketView, CommandError> {
    let wrong = |what: &str| CommandError::Usage(what.to_owned());
    for (field, value) in set {
        let number = || {
            value
                .as_u64()
                .and_then(|number| u8::try_from(number).ok())
                .ok_or_else(|| wrong("n, r and w are small numbers"))
        };
        let word = value.as_str().unwrap_or_default();
        match field.as_str() {
            "name" => {}
            "n" => rules.n = number()?,
            "r" => rules.r = number()?,
            "w" => rules.w = number()?,
            "durability" => {
                rules.durability = match word {
                    "buffered" => Durability::Buffered,
                    "one" => Durability::One,
                    "all" => Durability::All,
                    _ => return Err(wrong("`durability` is buffered, one or all")),
                }
            }
            "conflict" => {
                rules.conflict = match word {
                    "siblings" => Conflict::Siblings,
                    "lww" => Conflict::Lww,
                    "reject" => Conflict::Reject,
                    _ => return Err(wrong("`conflict` is siblings, lww or reject")),
                }
            }
            "blind_put" => {
                rules.blind_put = match word {
                    "latest" => BlindPut::Latest,
                    "supersede" => BlindPut::Supersede,
                    "sibling" => BlindPut::Sibling,
                    "reject" => BlindPut::Reject,
                    _ => return Err(wrong("`blind_put` is latest, supersede, sibling or reject")),
                }
            }
            "ttl_ms" => {
                rules.ttl_ms = match value {
                    Value::Null => None,
                    value => Some(
                        value
                            .as_u64()
                            .ok_or_else(|| wrong("`ttl_ms` is a number, or null for none"))?,
                    ),
                }
            }
            other => {
                return Err(CommandError::Usage(format!(
                    "no rule `{other}`; there are n, r, w, durability, conflict, blind_put, ttl_ms"
                )));
            }
        }
    }
    if !are_numbers_right(rules.n, rules.r, rules.w) {
        return Err(CommandError::Usage(format!(
            "n = {}, r = {}, w = {}: n is 1 to 16, r and w are 1 to n",
            rules.n, rules.r, rules.w
        )));
    }
    Ok(rules)
}

fn in_words(error: RingError) -> String {
    match error {
        RingError::Member(MemberError::Unknown(node)) => {
            format!("no node {node}; see gramme cluster status")
        }
        RingError::Member(MemberError::Removed(node)) => format!(
            "{node} was removed for good; start that node with an empty data directory, then it has a new id"
        ),
        RingError::Member(MemberError::TooMany) => "the cluster has as many ids as it may".into(),
        RingError::AlreadyJoined(node) => format!("{node} is in the cluster already"),
        RingError::NotJoined(node) => {
            format!("{node} is not in the layout: it cannot leave or be replaced")
        }
        RingError::StillMember(node) => {
            format!("{node} still has its places: stage its leaving, plan and commit first")
        }
        RingError::StillHolds { node, partitions } => format!(
            "{node} has not handed over {partitions} of its partitions yet; wait for the transfer, or say --lost if it \
             is gone for good"
        ),
        RingError::ReplicasOutOfRange => "a partition has 1 to 16 replicas".into(),
        RingError::NobodyLeft => "no node that could own anything would be left".into(),
        RingError::PlanIsStale => {
            "the cluster has changed since the plan was made; look at gramme cluster plan again"
                .into()
        }
        RingError::NothingPlanned => "the plan changes nothing; nothing is staged".into(),
        RingError::OtherCluster { own, other } => {
            format!("the other node is of cluster {other:016x}, this one of {own:016x}")
        }
    }
}

/// The state of a member in one word.
pub(super) fn state_name(state: MemberState) -> &'static str {
    match state {
        MemberState::Known => "known",
        MemberState::Joining => "joining",
        MemberState::Up => "up",
        MemberState::Leaving => "leaving",
        MemberState::Removed => "removed",
    }
}

/// A change in one word.
pub(super) fn change_name(change: Change) -> &'static str {
    match change {
        Change::Join => "join",
        Change::Leave => "leave",
        Change::Replace { .. } => "replace",
    }
}
