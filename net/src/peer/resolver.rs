//! Names to addresses. The system's resolver may block for seconds, so each look-up has a thread of its own.
//!
//! Owns the look-ups under way and what was found. A name that was found is kept until a connection to it fails; even
//! then the old address serves until there is a newer one.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::place::Place;

/// How often look-ups under way are looked at.
pub(super) const LOOK_NS: u64 = 20_000_000;

/// How long a failed look-up keeps its name from being asked for again.
const REST_NS: u64 = 1_000_000_000;

/// Names that are looked up at once; others wait for the next time that they are asked for.
const LOOKUPS_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Resolver {
    found: BTreeMap<String, IpAddr>,
    under_way: BTreeMap<String, Receiver<Option<IpAddr>>>,
    rests_until_ns: BTreeMap<String, u64>,
}

impl Resolver {
    /// The address of a host, if it is known; else it is being looked up, or will be.
    pub(super) fn address(&mut self, place: &Place, now_ns: u64) -> Option<IpAddr> {
        if let Some(number) = place.number() {
            return Some(number);
        }
        let found = self.found.get(&place.host).copied();
        if found.is_none() {
            self.look_up(&place.host, now_ns);
        }
        found
    }

    /// The address of a host did not serve: it may have moved.
    pub(super) fn doubt(&mut self, place: &Place, now_ns: u64) {
        if place.number().is_none() {
            self.look_up(&place.host, now_ns);
        }
    }

    /// Takes what was found since; returns whether look-ups are still under way.
    pub(super) fn look(&mut self, now_ns: u64) -> bool {
        let (found, rests) = (&mut self.found, &mut self.rests_until_ns);
        self.under_way.retain(|host, receiver| {
            match receiver.try_recv() {
                Err(TryRecvError::Empty) => return true,
                Ok(Some(address)) => {
                    found.insert(host.clone(), address);
                }
                Ok(None) | Err(TryRecvError::Disconnected) => {
                    tracing::warn!(host, "the name cannot be resolved; trying again");
                }
            }
            rests.insert(host.clone(), now_ns + REST_NS);
            false
        });
        rests.retain(|_, until_ns| *until_ns > now_ns);
        !self.under_way.is_empty()
    }

    fn look_up(&mut self, host: &str, now_ns: u64) {
        let rests = self.rests_until_ns.get(host);
        let is_resting = rests.is_some_and(|until_ns| *until_ns > now_ns);
        if is_resting || self.under_way.contains_key(host) || self.under_way.len() >= LOOKUPS_MAX {
            return;
        }
        let (sender, receiver) = channel();
        let name = host.to_owned();
        let thread = std::thread::Builder::new()
            .name("gramme-names".into())
            .spawn(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                let found = found.ok().and_then(|mut found| found.next());
                // Whoever asked may have gone.
                let _ = sender.send(found.map(|address| address.ip()));
            });
        if thread.is_ok() {
            self.under_way.insert(host.to_owned(), receiver);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_needs_no_look_up_and_a_name_is_found_later() {
        let mut resolver = Resolver::default();
        let number = Place::parse("127.0.0.2:1").expect("an address");
        assert!(resolver.address(&number, 0).is_some());
        assert!(!resolver.look(0));
        let name = Place::parse("localhost:1").expect("an address");
        assert_eq!(resolver.address(&name, 0), None);
        let begun = std::time::Instant::now();
        while resolver.look(1) {
            assert!(begun.elapsed().as_secs() < 20, "never answered");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(
            resolver
                .address(&name, 2)
                .is_some_and(|ip| ip.is_loopback())
        );
    }
}
