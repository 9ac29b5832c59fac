//! Ports for the nodes of tests.
//!
//! They lie below those that the kernel gives to clients and to whoever asks for any port: one of these could be taken
//! while a node that is to have it is killed and started again, even by a neighbour's own try to connect to it.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// The first, and how many there are; the kernel's own begin at 32,768 unless it is told otherwise.
const FIRST: u16 = 12_000;
const COUNT: u32 = 20_000;

/// So many ports in a row that are free now, and that no other call of this process gives.
pub(crate) fn free_ports(host: &str, count: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test programs that run at the same time begin elsewhere.
    let begin = std::process::id().wrapping_mul(7919);
    for _ in 0..1_000 {
        let at = begin.wrapping_add(NEXT.fetch_add(count.into(), Ordering::Relaxed)) % COUNT;
        let port = FIRST + u16::try_from(at).expect("below COUNT");
        let bound: Vec<_> = (port..port + count)
            .map_while(|port| TcpListener::bind((host, port)).ok())
            .collect();
        if bound.len() == usize::from(count) {
            return port;
        }
    }
    panic!("no {count} ports in a row are free");
}
