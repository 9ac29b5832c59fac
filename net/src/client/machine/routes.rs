//! Which addresses a key's request may go to, best first.
//!
//! Owns the downloaded table and the seeds. Never knows whether an address answers.

use gramme_core::base::ids::Token;
use gramme_core::ring::Slices;

use crate::wire::{Ring, RingNode};

#[derive(Debug)]
pub(super) struct Routes {
    seeds: Vec<String>,
    epoch: Option<u64>,
    nodes: Vec<Node>,
    /// For each partition the places in `nodes` of those that answer for it, best first.
    rows: Vec<Vec<u16>>,
    partition_bits: u32,
}

#[derive(Debug)]
struct Node {
    slices: Slices,
    address: String,
    shard_addresses: Vec<String>,
}

impl Routes {
    pub(super) fn new(seeds: &[String]) -> Self {
        Self {
            seeds: seeds.to_vec(),
            epoch: None,
            nodes: Vec::new(),
            rows: Vec::new(),
            partition_bits: 0,
        }
    }

    /// The epoch of the table, none before it came.
    pub(super) const fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Takes a table that came over the connection to `reached`; an older one is dropped.
    ///
    /// # Errors
    /// What in it cannot be.
    pub(super) fn learn(&mut self, ring: &Ring, reached: &str) -> Result<(), String> {
        if self.epoch.is_some_and(|epoch| epoch > ring.epoch) {
            return Ok(());
        }
        let nodes = ring
            .nodes
            .iter()
            .map(|node| read_node(node, ring.partitions, reached))
            .collect::<Result<Vec<_>, _>>()?;
        self.epoch = Some(ring.epoch);
        self.nodes = nodes;
        self.rows = ring.routes.clone();
        self.partition_bits = ring.partitions.max(1).trailing_zeros();
        Ok(())
    }

    /// The owner's shard on each node that answers for the key, best first, from the `skipped`-th on and then round;
    /// behind them the nodes' common ports and the seeds: any node forwards.
    pub(super) fn addresses(&self, token: Token, skipped: u32) -> Vec<String> {
        let owners = self.owners(token);
        let first = skipped as usize % owners.len().max(1);
        let shard_of = |node: &&Node| {
            let shard = usize::from(node.slices.shard_of(token).0);
            node.shard_addresses.get(shard).cloned()
        };
        let mut addresses: Vec<String> = owners[first..]
            .iter()
            .chain(&owners[..first])
            .filter_map(|number| self.nodes.get(usize::from(*number)))
            .filter_map(|node| shard_of(&node))
            .collect();
        if addresses.is_empty() {
            addresses.extend(self.nodes.first().and_then(|node| shard_of(&node)));
        }
        addresses.extend(self.nodes.iter().map(|node| node.address.clone()));
        addresses.extend(self.seeds.iter().cloned());
        addresses
    }

    fn owners(&self, token: Token) -> &[u16] {
        let partition = token.0.checked_shr(64 - self.partition_bits).unwrap_or(0);
        self.rows
            .get(usize::try_from(partition).unwrap_or(usize::MAX))
            .map_or(&[], Vec::as_slice)
    }
}

fn read_node(node: &RingNode, partitions: u32, reached: &str) -> Result<Node, String> {
    let host = if node.host.is_empty() {
        reached.rsplit_once(':').map_or(reached, |(host, _)| host)
    } else {
        &node.host
    };
    let shards = u16::try_from(node.shard_ports.len()).unwrap_or(0);
    let slices = Slices::new(partitions, shards)
        .ok_or_else(|| format!("a ring of {partitions} partitions and {shards} shards"))?;
    Ok(Node {
        slices,
        address: address(host, node.port),
        shard_addresses: node
            .shard_ports
            .iter()
            .map(|port| address(host, *port))
            .collect(),
    })
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        return format!("[{host}]:{port}");
    }
    format!("{host}:{port}")
}

/// Whether frames to this `host:port` stay on this machine.
pub(super) fn is_loopback(address: &str) -> bool {
    let host = address
        .rsplit_once(':')
        .map_or(address, |(host, _)| host)
        .trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
