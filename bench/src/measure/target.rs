//! A target, opened.
//!
//! Owns the choice between servers and embedded stores, so that nothing above has to make it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use crate::load::plan::{LoadPlan, Pace};
use crate::load::threads::{self, Driven};
use crate::load::window::Window;
use crate::load::{probe, sockets};
use crate::target::address::{Address, Protocol};
use crate::target::memcached::Memcached;
use crate::target::native::Native;
use crate::target::open::{StoreSettings, open_store};
use crate::target::resp::Resp;
use crate::target::store::SessionSource;
use crate::target::wire::Wire;
use crate::workload::{Durability, KeySpace, Verb, Workload};

/// A target, opened.
pub struct Target {
    address: Address,
    facts: Vec<(String, String)>,
    way: Way,
}

enum Way {
    Store(Box<dyn SessionSource>),
    Resp(Resp, SocketAddr),
    Memcached(Memcached, SocketAddr),
}

/// Why a target cannot be measured.
#[derive(Debug)]
pub struct TargetError {
    target: String,
    problem: String,
    /// It was asked for something that this kind of target can never do.
    asked_wrongly: bool,
}

impl TargetError {
    /// Whether another command line, not another state of the target, is what helps.
    pub fn is_usage(&self) -> bool {
        self.asked_wrongly
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.target, self.problem)
    }
}

impl std::error::Error for TargetError {}

/// Does the same with whichever protocol it is.
macro_rules! with_wire {
    ($way:expr, $wire:ident, $address:ident => $then:expr, store $store:ident => $otherwise:expr) => {
        match $way {
            Way::Resp($wire, $address) => $then,
            Way::Memcached($wire, $address) => $then,
            Way::Store($store) => $otherwise,
        }
    };
}

impl Target {
    /// Opens `address` for `workload`: connects or opens, asks for facts, and makes sure that what the workload wants
    /// can be had.
    pub fn open(
        address: &Address,
        workload: &Workload,
        settings: &StoreSettings,
    ) -> Result<Self, TargetError> {
        let failed = |problem: String| TargetError {
            target: address.to_string(),
            problem,
            asked_wrongly: false,
        };
        let mut way = match address {
            Address::Embedded { store, directory } => Way::Store(
                open_store(*store, directory, settings)
                    .map_err(|error| failed(error.to_string()))?,
            ),
            Address::Server { protocol, endpoint } => {
                let resolved = resolve(endpoint)
                    .map_err(|error| failed(format!("cannot find '{endpoint}': {error}")))?;
                match protocol {
                    // redis-cli reads the password from here too.
                    Protocol::Resp => {
                        Way::Resp(Resp::new(std::env::var("REDISCLI_AUTH").ok()), resolved)
                    }
                    Protocol::Memcached => Way::Memcached(Memcached, resolved),
                    // The client finds its addresses itself.
                    Protocol::Native => Way::Store(Box::new(
                        Native::connect(endpoint, settings.timeout)
                            .map_err(|error| failed(error.to_string()))?,
                    )),
                }
            }
        };
        let cannot = with_wire!(&way, wire, _at => cannot(&|verb| wire.can(verb), workload),
            store store => cannot(&|verb| store.store().can(verb), workload));
        if let Some(problem) = cannot {
            return Err(TargetError {
                asked_wrongly: true,
                ..failed(problem)
            });
        }
        let facts = with_wire!(&mut way, wire, at => greet(wire, *at, workload).map_err(|error| failed(error.to_string()))?, store store => store.store().facts());
        Ok(Target {
            address: address.clone(),
            facts,
            way,
        })
    }

    /// An error about this target.
    pub fn failed(&self, problem: impl fmt::Display) -> TargetError {
        TargetError {
            target: self.address.to_string(),
            problem: problem.to_string(),
            asked_wrongly: false,
        }
    }

    /// Its address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its own facts: version and settings.
    pub fn facts(&self) -> &[(String, String)] {
        &self.facts
    }

    /// Whether the store runs inside this process.
    pub fn is_embedded(&self) -> bool {
        matches!(self.address, Address::Embedded { .. })
    }

    /// Which part of the workload's records is there, by a sample, 0 to 1.
    pub fn presence(&self, workload: &Workload) -> Result<f64, TargetError> {
        with_wire!(&self.way, wire, at => probe::presence(wire, *at, workload).map_err(|error| self.failed(error)),
            store store => threads::presence(store.as_ref(), workload).map_err(|error| self.failed(error)))
    }

    /// Whether something that is written can be read again.
    pub fn keeps(&self, workload: &Workload) -> Result<bool, TargetError> {
        with_wire!(&self.way, wire, at => probe::keeps(wire, *at, workload).map_err(|error| self.failed(error)), store _store => Ok(true))
    }

    /// Writes all records; `progress` is told how many more are written.
    pub fn load(
        &self,
        workload: &Workload,
        plan: &LoadPlan,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), TargetError> {
        let fill = LoadPlan {
            pace: Pace::Fill,
            window: Duration::from_millis(200),
            ..plan.clone()
        };
        let space = KeySpace::new(workload.records);
        let mut errors = 0;
        let mut seen = |window: &Window| {
            errors += window.counts.errors_total();
            progress(window.counts.ended);
        };
        let driven = with_wire!(&self.way, wire, at => sockets::run(wire, *at, &fill, workload, &space, &mut seen),
            store store => return threads::load(store.as_ref(), workload, plan.threads, plan.seed, progress).map_err(|error| self.failed(error)));
        let driven = driven.map_err(|error| self.failed(error))?;
        if errors > 0 {
            let first = driven.first_error.unwrap_or_default();
            return Err(self.failed(format!(
                "{errors} of {} records could not be written; the first error: {first}",
                workload.records
            )));
        }
        Ok(())
    }

    /// Runs `plan`; `seen` is shown each window.
    pub fn drive(
        &self,
        plan: &LoadPlan,
        workload: &Workload,
        space: &Arc<KeySpace>,
        seen: impl FnMut(&Window),
    ) -> Result<Driven, TargetError> {
        with_wire!(&self.way, wire, at => sockets::run(wire, *at, plan, workload, space, seen).map_err(|error| self.failed(explain(&error, plan))),
            store store => threads::run(store.as_ref(), &self.for_sessions(plan), workload, space, seen).map_err(|error| self.failed(error)))
    }
}

impl Target {
    /// The plan as threads with sessions take it: gramme's client multiplexes, so what would be in flight over all
    /// connections is in flight in its sessions.
    fn for_sessions(&self, plan: &LoadPlan) -> LoadPlan {
        let mut plan = plan.clone();
        if !self.is_embedded() {
            plan.depth = (plan.connections * plan.depth).div_ceil(plan.threads);
        }
        plan
    }
}

fn resolve(endpoint: &str) -> io::Result<SocketAddr> {
    endpoint
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("the name has no address"))
}

/// What the workload wants and the protocol has no word for.
fn cannot(can: &dyn Fn(Verb) -> bool, workload: &Workload) -> Option<String> {
    let wanted = |verb: &&Verb| workload.mix.share(**verb) > 0.0 && !can(**verb);
    let verb = Verb::ALL.iter().find(wanted)?;
    Some(format!(
        "workload {} wants to {}, which this target cannot",
        workload.name,
        verb.word()
    ))
}

/// Connects once: facts and promises.
fn greet<W: Wire>(
    wire: &mut W,
    at: SocketAddr,
    workload: &Workload,
) -> io::Result<Vec<(String, String)>> {
    let connect = || -> io::Result<TcpStream> {
        probe::connect_for_facts(at).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot connect: {error}; is the server running?"),
            )
        })
    };
    if workload.durability == Durability::Durable {
        wire.promise(&mut connect()?, workload.durability)?;
    }
    Ok(wire.facts(&mut connect()?))
}

fn explain(error: &io::Error, plan: &LoadPlan) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            format!(
                "{error}: {} connections need more file descriptors than this process may open; raise `ulimit -n` or lower --connections",
                plan.connections
            )
        }
        _ => format!("cannot run the load: {error}"),
    }
}
