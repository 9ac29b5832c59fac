//! Asking a server one thing at a time, before a run.
//!
//! Owns a blocking connection with short patience. Never part of a measurement.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::target::outcome::Outcome;
use crate::target::wire::{Parsed, Step, Wire};
use crate::workload::{Durability, Operation, Verb, Workload};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that stalls for a second must still be understood.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// A server that does not know a question about itself may never answer it.
const FACT_TIMEOUT: Duration = Duration::from_millis(300);
const SAMPLES: u64 = 100;

/// A connection for questions about the target itself.
pub fn connect_for_facts(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(FACT_TIMEOUT))?;
    Ok(stream)
}

/// Which part of a sample of the workload's records is on the server, 0 to 1. Only a clear "not there" counts as
/// absent.
pub fn presence<W: Wire>(wire: &W, address: SocketAddr, workload: &Workload) -> io::Result<f64> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut out = Vec::new();
    let mut input = Vec::new();
    for _ in 0..wire.greet(&mut out) {
        stream.write_all(&out)?;
        out.clear();
        answer(wire, &mut stream, Step::Write, 0, &mut input)?;
    }
    let format = workload.key_format().map_err(io::Error::other)?;
    let mut key = Vec::new();
    let mut absent = 0;
    for sample in 0..SAMPLES {
        let key_id = sample * workload.records / SAMPLES;
        let operation = Operation {
            verb: Verb::Read,
            key_id,
            value_bytes: 0,
            scan_keys: 0,
            ttl_s: 0,
            durability: Durability::Default,
        };
        format.write(key_id, &mut key);
        out.clear();
        wire.encode(Step::Read, &operation, &key, &[], &mut out);
        stream.write_all(&out)?;
        absent +=
            u64::from(answer(wire, &mut stream, Step::Read, key_id, &mut input)? == Outcome::Miss);
    }
    Ok(1.0 - absent as f64 / SAMPLES as f64)
}

fn answer<W: Wire>(
    wire: &W,
    stream: &mut TcpStream,
    step: Step,
    key_id: u64,
    input: &mut Vec<u8>,
) -> io::Result<Outcome> {
    let mut chunk = [0; 16 << 10];
    loop {
        match wire.parse(step, key_id, input) {
            Parsed::Reply { bytes, outcome } => {
                input.drain(..bytes);
                return Ok(outcome);
            }
            Parsed::Broken => {
                return Err(io::Error::other(
                    "its answer is not of this protocol; is it another kind of server?",
                ));
            }
            Parsed::NeedMore => {}
        }
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it closed the connection",
            ));
        }
        input.extend_from_slice(&chunk[..read]);
    }
}
