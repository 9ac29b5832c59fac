//! A node inside this process, on free ports of loopback, for the examples and tests of the client.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use gramme::native::{NativeProtocol, RingTable};
use gramme::reactor::{Listener, Reactor, ReactorOptions};
use gramme::wire::{Ring, RingNode};
use gramme_core::base::limits::PARTITIONS_DEFAULT;
use gramme_engine::{Engine, EngineConfig};

/// The running node; it stops with it.
pub(crate) struct Node {
    /// Where any shard is reached.
    pub(crate) address: SocketAddr,
    /// The shards.
    pub(crate) engine: Engine,
}

/// Starts a node of `shards` in `dir`.
pub(crate) fn start(dir: &Path, shards: u16) -> Result<Node, Box<dyn std::error::Error>> {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let common = bind()?;
    let address = common.local_addr()?;
    let sockets = (0..shards).map(|_| bind()).collect::<Result<Vec<_>, _>>()?;
    let ports = sockets.iter().map(|socket| Ok(socket.local_addr()?.port()));
    let node = RingNode {
        node: 1,
        host: String::new(),
        port: address.port(),
        shard_ports: ports.collect::<Result<Vec<_>, std::io::Error>>()?,
    };
    let protocol = Arc::new(NativeProtocol::new(Arc::new(RingTable::new(Ring {
        routes: Vec::new(),
        epoch: 1,
        partitions: PARTITIONS_DEFAULT,
        answered_by: 0,
        nodes: vec![node],
    }))));
    let listener = |socket, is_dealt| Listener {
        socket,
        protocol: protocol.clone(),
        is_dealt,
        tls: None,
    };
    let mut listeners: HashMap<u16, Vec<Listener>> = (0..)
        .zip(sockets)
        .map(|(shard, socket)| (shard, vec![listener(socket, false)]))
        .collect();
    if let Some(first) = listeners.get_mut(&0) {
        first.push(listener(common, true));
    }
    let listeners = Mutex::new(listeners);
    // One for all shards: they count the node's connections together.
    let options = ReactorOptions::default();
    let mut config = EngineConfig::new(dir);
    config.shards = Some(shards);
    config.pin_to_cores = false;
    config.edge = Some(Box::new(move |shard| {
        let mut listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let own = listeners.remove(&shard.0).unwrap_or_default();
        Box::new(Reactor::new(own, options.clone()))
    }));
    let engine = Engine::open(config)?;
    Ok(Node { address, engine })
}
