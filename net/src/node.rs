//! A node: its listeners, its shards, its admin server, in the order in which they start and stop.
//!
//! Owns the start (ports first, since a port in use is the commonest mistake and recovery may take a while; then the
//! admin server, which tells that the shards recover; then the shards with the network plugged in) and the stop.
//! Never touches a request.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use gramme_core::base::ids::{NodeId, ShardIndex};
use gramme_core::ring::{NodeView, RingView};
use gramme_engine::{ClusterConfig, EdgeFactory, Engine, EngineConfig, OpenError};
use rustls::ClientConfig;

use crate::admin::{Admin, Facts};
use crate::config::Config;
use crate::host::Host;
use crate::io_profile::IoProfile;
use crate::native::{NativeProtocol, RingTable};
use crate::peer::{Network, Place, ViewWatch};
use crate::reactor::session::Protocol;
use crate::reactor::{Listener, Reactor, ReactorOptions};
use crate::resp::{RespOptions, RespProtocol};
use crate::secret::Source;
use crate::tls::NodeTls;
use crate::wire::{Ring, RingNode};

/// Where a node listens; the ports that the system chose when 0 was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The Redis protocol.
    pub resp: SocketAddr,
    /// The native protocol.
    pub native: SocketAddr,
    /// The admin HTTP server.
    pub admin: SocketAddr,
}

/// A node that serves.
pub struct Node {
    engine: Engine,
    admin: Admin,
    addresses: Addresses,
    views: Arc<Views>,
}

/// Why a node does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    Listen {
        /// Which of them.
        name: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// What protects the node cannot be read; in words.
    Security(String),
    /// The admin server's thread cannot start.
    Admin(io::Error),
    /// The shards cannot start.
    Open(OpenError),
}

impl StartError {
    /// Whether the configuration is at fault, not the machine.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Open(OpenError::Config(_)) | Self::Security(_))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen {
                name,
                address,
                error,
            } if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "the {name} address {address} is in use; stop what uses it, or choose another with --{name} \
                 (shard s also listens on the native port + 1 + s)"
            ),
            Self::Listen {
                name,
                address,
                error,
            } => write!(f, "cannot listen on the {name} address {address}: {error}"),
            Self::Security(why) => f.write_str(why),
            Self::Admin(error) => write!(f, "cannot start the admin server: {error}"),
            Self::Open(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// The sockets of each shard, by shard.
type ShardListeners = Vec<Vec<Listener>>;

impl Node {
    /// Starts a node; it serves when this returns.
    ///
    /// # Errors
    /// [`StartError`] says what is in the way; nothing runs then.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let shards = config.file.shards.unwrap_or_else(shards_default);
        let read = |source: &Option<Source>| source.as_ref().map(Source::read).transpose();
        let password = read(&config.password).map_err(StartError::Security)?;
        let admin_token = read(&config.admin_token).map_err(StartError::Security)?;
        let admin_token = admin_token.map(Arc::new);
        let tls = config.file.tls.as_ref().map(NodeTls::read).transpose();
        let tls = tls.map_err(|error| StartError::Security(format!("tls: {error}")))?;
        let sockets = Sockets::bind(config, shards)?;
        let addresses = sockets.addresses;
        let facts = Facts {
            name: config.file.name.clone(),
            zone: config.file.zone.clone(),
            addresses,
            admin_token: admin_token.clone(),
        };
        let network = ReactorOptions::default();
        if let Some(tls) = &tls {
            let ends_s = &network.counters.certificate_ends_s;
            ends_s.store(tls.ends_s, Ordering::Relaxed);
        }
        let mut engine = engine_config(config, shards);
        set_by_profile(&mut engine, config, shards);
        // Which node this is, the directory tells; clients that come earlier learn of it by the epoch.
        let views = Arc::new(Views::new(addresses, shards));
        let resp = Arc::new(RespProtocol::new(RespOptions {
            password,
            value_bytes_max: engine.value_bytes_max as usize,
            port: addresses.resp.port(),
            counters: Arc::clone(&network.counters),
            ..RespOptions::default()
        }));
        let native = NativeProtocol::new(Arc::clone(&views.table));
        let native = Arc::new(native.with_admin_token(admin_token));
        let (listeners, admin_socket) = sockets.into_listeners(resp, native, tls.as_ref());
        let admin_tls = tls.as_ref().map(|tls| Arc::clone(&tls.open));
        let counters = Arc::clone(&network.counters);
        let admin =
            Admin::start((admin_socket, admin_tls), facts, counters).map_err(StartError::Admin)?;
        let seen = Arc::clone(&views);
        let watch: ViewWatch = Arc::new(move |view| seen.replace(view));
        engine.cluster = Some(cluster_config(config, addresses));
        let peer_tls = tls.map(|tls| tls.peer);
        engine.edge = Some(edge_factory(listeners, network, (watch, peer_tls)));
        let engine = Engine::open(engine).map_err(StartError::Open)?;
        admin.serve(engine.clone());
        Ok(Self {
            engine,
            admin,
            addresses,
            views,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The shards.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The cluster as this node sees it.
    pub fn view(&self) -> Option<Arc<RingView>> {
        self.views.latest()
    }

    /// Why shards have ended that should run; empty while all is well.
    pub fn failures(&self) -> Vec<String> {
        self.engine.failures()
    }

    /// The shards that show no life within this time; none while all is well.
    pub fn hung(&self, within: Duration) -> Vec<ShardIndex> {
        self.engine.hung(within)
    }

    /// Stops: what was acknowledged is on stable media when this returns.
    ///
    /// # Errors
    /// What went wrong in a shard, in words.
    pub fn stop(self) -> Result<(), String> {
        let stopped = self.engine.stop();
        self.admin.stop();
        stopped
    }
}

/// What a node listens on, bound.
struct Sockets {
    resp: TcpListener,
    native: TcpListener,
    admin: TcpListener,
    shards: Vec<TcpListener>,
    addresses: Addresses,
}

impl Sockets {
    fn bind(config: &Config, shards: u16) -> Result<Self, StartError> {
        let (resp, resp_address) = bind("resp", config.resp)?;
        let (native, native_address, own) = Self::bind_native(config.listen, shards)?;
        let (admin, admin_address) = bind("admin", config.admin)?;
        let addresses = Addresses {
            resp: resp_address,
            native: native_address,
            admin: admin_address,
        };
        Ok(Self {
            resp,
            native,
            admin,
            shards: own,
            addresses,
        })
    }

    /// The native port and those of the shards behind it. Where the first is ours to choose (port 0), one of the others
    /// may be taken: then another first is tried.
    fn bind_native(
        address: SocketAddr,
        shards: u16,
    ) -> Result<(TcpListener, SocketAddr, Vec<TcpListener>), StartError> {
        let mut tries_left = if address.port() == 0 {
            FREE_PORTS_TRIES
        } else {
            1
        };
        loop {
            tries_left -= 1;
            let (native, native_address) = bind("listen", address)?;
            let own: Result<Vec<TcpListener>, StartError> = (0..shards)
                .map(|shard| Self::bind_shard(native_address, shard, tries_left == 0))
                .collect();
            match own {
                Ok(own) => return Ok((native, native_address, own)),
                Err(error) if tries_left == 0 => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn bind_shard(
        native: SocketAddr,
        shard: u16,
        is_patient: bool,
    ) -> Result<TcpListener, StartError> {
        let failed = |address, error| StartError::Listen {
            name: "listen",
            address,
            error,
        };
        let Some(port) = shard_port(native, shard) else {
            let what = "the shards listen on the ports behind it, and those end at 65535; choose a lower one";
            return Err(failed(native, io::Error::other(what)));
        };
        let address = SocketAddr::new(native.ip(), port);
        if is_patient {
            return Ok(bind("listen", address)?.0);
        }
        TcpListener::bind(address).map_err(|error| failed(address, error))
    }

    /// The sockets by the shard that accepts on them, and the admin server's.
    fn into_listeners(
        self,
        resp: Arc<dyn Protocol>,
        native: Arc<dyn Protocol>,
        tls: Option<&NodeTls>,
    ) -> (ShardListeners, TcpListener) {
        let mutual = tls.map(|tls| &tls.mutual);
        let mut listeners: ShardListeners = self
            .shards
            .into_iter()
            .map(|socket| {
                vec![Listener {
                    socket,
                    protocol: Arc::clone(&native),
                    is_dealt: false,
                    tls: mutual.cloned(),
                }]
            })
            .collect();
        if let Some(first) = listeners.first_mut() {
            first.push(Listener {
                socket: self.resp,
                protocol: resp,
                is_dealt: true,
                tls: tls.map(|tls| Arc::clone(&tls.open)),
            });
            first.push(Listener {
                socket: self.native,
                protocol: native,
                is_dealt: true,
                tls: mutual.cloned(),
            });
        }
        (listeners, self.admin)
    }
}

/// Ports that are tried where any will do.
const FREE_PORTS_TRIES: u32 = 16;

/// How long a port may be in use at a start before that is an error: when a node was killed, the kernel ends its ring,
/// and with it the sockets that it accepted on, a moment after the process; later where the disk has much to end.
const BIND_PATIENCE: Duration = Duration::from_secs(8);
/// After how long that is said: it may as well be another program's port.
const BIND_SAID_AFTER: Duration = Duration::from_millis(1500);

fn bind(name: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let begun = Instant::now();
    let mut is_said = false;
    loop {
        let bound = TcpListener::bind(address).and_then(|socket| {
            let address = socket.local_addr()?;
            Ok((socket, address))
        });
        match bound {
            Ok(bound) => return Ok(bound),
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < BIND_PATIENCE =>
            {
                if !is_said && begun.elapsed() > BIND_SAID_AFTER {
                    is_said = true;
                    tracing::warn!(
                        "the {name} address {address} is in use; trying for {} s more, since a node that was killed may \
                         still be ending",
                        (BIND_PATIENCE - BIND_SAID_AFTER).as_secs()
                    );
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => {
                return Err(StartError::Listen {
                    name,
                    address,
                    error,
                });
            }
        }
    }
}

/// RAM for values unless configured: a quarter of the machine's, so that the index and others have room.
fn memory_bytes_default() -> u64 {
    const LEAST: u64 = 256 << 20;
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit.max(1));
    #[expect(
        clippy::useless_conversion,
        reason = "the field's width differs between machines"
    )]
    let total = u64::from(info.totalram).saturating_mul(unit);
    (total / 4).max(LEAST)
}

fn shard_port(native: SocketAddr, shard: u16) -> Option<u16> {
    native.port().checked_add(1)?.checked_add(shard)
}

/// The cluster as the control shard last saw it, for those of this node who are no shard.
struct Views {
    native: SocketAddr,
    /// What clients download.
    table: Arc<RingTable>,
    latest: RwLock<Option<Arc<RingView>>>,
}

impl Views {
    /// Before the first view: this node only. Which one it is, the directory tells.
    fn new(addresses: Addresses, shards: u16) -> Self {
        let ring = Ring {
            epoch: 0,
            partitions: 1,
            answered_by: 0,
            nodes: vec![ring_node(
                (NodeId(0), shards),
                String::new(),
                addresses.native.port(),
            )],
            routes: Vec::new(),
        };
        Self {
            native: addresses.native,
            table: Arc::new(RingTable::new(ring)),
            latest: RwLock::default(),
        }
    }

    fn replace(&self, view: &Arc<RingView>) {
        self.table.replace(self.ring(view));
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        *latest = Some(Arc::clone(view));
    }

    fn latest(&self) -> Option<Arc<RingView>> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        latest.clone()
    }

    /// The routing table: this node first, then those that seem alive. Clients reach this node by the host by which they
    /// reached the table.
    fn ring(&self, view: &RingView) -> Ring {
        let own = (view.me, view.slices.shards());
        let own = ring_node(own, String::new(), self.native.port());
        let others = |is_alive: bool| {
            let others = view
                .nodes
                .iter()
                .filter(move |node: &&NodeView| node.id != view.me && node.is_alive == is_alive);
            others.filter_map(|node| {
                let place = Place::parse(&node.address)?;
                Some(ring_node((node.id, node.shards), place.host, place.port))
            })
        };
        let nodes: Vec<RingNode> = std::iter::once(own)
            .chain(others(true))
            .chain(others(false))
            .collect();
        let place_of = |number: &u16| {
            let id = view.node(*number).id.0;
            let at = nodes.iter().position(|node| node.node == id)?;
            u16::try_from(at).ok()
        };
        let routes = view
            .partitions
            .iter()
            .map(|row| row.read.iter().filter_map(place_of).collect())
            .collect();
        Ring {
            epoch: view.epoch + 1,
            partitions: view.slices.partitions(),
            answered_by: 0,
            routes,
            nodes,
        }
    }
}

fn ring_node((node, shards): (NodeId, u16), host: String, port: u16) -> RingNode {
    let shard_port = |shard| port.checked_add(1)?.checked_add(shard);
    RingNode {
        node: node.0,
        host,
        port,
        shard_ports: (0..shards).filter_map(shard_port).collect(),
    }
}

/// What the node tells its cluster of itself.
fn cluster_config(config: &Config, addresses: Addresses) -> ClusterConfig {
    let file = &config.file;
    let said = file.advertise.as_deref().and_then(Place::parse);
    let listen = said.unwrap_or_else(|| reached(addresses.native, None));
    let host = Some(listen.host.as_str());
    ClusterConfig {
        name: file.name.clone(),
        zone: file.zone.clone().unwrap_or_default(),
        resp: reached(addresses.resp, host).to_string(),
        admin: reached(addresses.admin, host).to_string(),
        listen: listen.to_string(),
        weight: file.weight.unwrap_or(WEIGHT_DEFAULT),
        seeds: file.join.clone().unwrap_or_default(),
        buckets: file.bucket_views(),
    }
}

/// A node's share of the data when it does not say another.
const WEIGHT_DEFAULT: u32 = 100;

/// How others reach an address that this node listens on: by `host`, or by the machine's name, where it listens on all.
fn reached(address: SocketAddr, host: Option<&str>) -> Place {
    let host = match (address.ip().is_unspecified(), host) {
        (false, _) => address.ip().to_string(),
        (true, Some(host)) => host.to_owned(),
        (true, None) => {
            let name = rustix::system::uname();
            name.nodename().to_string_lossy().into_owned()
        }
    };
    Place {
        host,
        port: address.port(),
    }
}

/// One shard a core that this process may use.
pub fn shards_default() -> u16 {
    std::thread::available_parallelism()
        .map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX))
}

/// The engine's settings: its defaults, and what the configuration says.
pub fn engine_config(config: &Config, shards: u16) -> EngineConfig {
    let mut engine = EngineConfig::new(&config.data);
    let file = &config.file;
    fn set<T>(setting: &mut T, said: Option<T>) {
        if let Some(said) = said {
            *setting = said;
        }
    }
    engine.shards = Some(shards);
    engine.capacity_bytes = file.capacity_bytes;
    engine.buckets = file.buckets();
    engine.segment_bytes = file.segment_bytes;
    engine.partitions = file.partitions;
    engine.memory_bytes = memory_bytes_default();
    set(&mut engine.memory_bytes, file.memory_bytes);
    set(&mut engine.durability, file.durability.map(Into::into));
    set(&mut engine.commit_interval, file.commit_interval());
    set(&mut engine.sla_p999, file.sla_p999());
    set(&mut engine.scrub_interval, file.scrub_interval());
    engine.background_bytes_per_s = file.background_bytes_per_s;
    set(&mut engine.value_bytes_max, file.value_bytes_max);
    set(&mut engine.checkpoint_bytes, file.checkpoint_bytes);
    set(&mut engine.requests_max, file.requests_max);
    set(&mut engine.pin_to_cores, file.pin_to_cores);
    set(&mut engine.spin_max, file.spin_max());
    engine
}

/// What `gramme tune calibrate` found out about the disk, where it was asked.
fn set_by_profile(engine: &mut EngineConfig, config: &Config, shards: u16) {
    let profile = match IoProfile::read(&config.data) {
        Ok(Some(profile)) => profile,
        Ok(None) => return,
        Err(what) => {
            tracing::warn!(
                "what the disk was measured with is not used: {what}; see `gramme tune calibrate {}`",
                config.data.display()
            );
            return;
        }
    };
    let disk = config.data.canonicalize().ok();
    let disk = disk.and_then(|data| Host::here().disk_of(&data));
    for difference in disk.map_or_else(Vec::new, |disk| profile.differences(&disk)) {
        tracing::warn!(
            "the disk looks unlike the one that io.toml was measured on: {difference}; see `gramme tune calibrate {}`",
            config.data.display()
        );
    }
    let taken = profile.set(engine, &config.file, shards);
    tracing::info!(target: "gramme::start", "by io.toml, {taken}");
}

/// Each shard's network: its sockets, and what speaks on them.
fn edge_factory(
    listeners: ShardListeners,
    options: ReactorOptions,
    (watch, peer_tls): (ViewWatch, Option<Arc<ClientConfig>>),
) -> EdgeFactory {
    let listeners = Mutex::new(listeners);
    Box::new(move |shard: ShardIndex| {
        let mut listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let own = listeners
            .get_mut(usize::from(shard.0))
            .map(std::mem::take)
            .unwrap_or_default();
        let reactor = Reactor::new(own, options.clone());
        let network = Network::new(reactor).with_tls(peer_tls.clone());
        Box::new(network.with_watch(Arc::clone(&watch)))
    })
}
