//! Asking a server one thing at a time, before a run.
//!
//! Owns a blocking connection with short patience. Never part of a measurement.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::target::outcome::Outcome;
use crate::target::wire::{Parsed, Step, Wire};
use crate::workload::{KeySpace, OperationStream, Workload};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that stalls for a second must still be understood.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// A server that does not know a question about itself may never answer it.
const FACT_TIMEOUT: Duration = Duration::from_millis(300);
const SAMPLES: u64 = 50;

/// A connection for questions about the target itself.
pub fn connect_for_facts(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(FACT_TIMEOUT))?;
    Ok(stream)
}

/// Which part of a sample of the workload's records is on the server, 0 to 1. Only a clear "not there" counts as
/// absent.
pub fn presence<W: Wire>(wire: &W, address: SocketAddr, workload: &Workload) -> io::Result<f64> {
    let mut asking = Asking::connect(wire, address, workload)?;
    let mut absent = 0;
    for sample in 0..SAMPLES {
        let key_id = sample * workload.records / SAMPLES;
        absent += u64::from(asking.ask(Step::Read, key_id)? == Outcome::Miss);
    }
    Ok(1.0 - absent as f64 / SAMPLES as f64)
}

/// Whether a record that is written can be read again.
pub fn keeps<W: Wire>(wire: &W, address: SocketAddr, workload: &Workload) -> io::Result<bool> {
    let mut asking = Asking::connect(wire, address, workload)?;
    asking.ask(Step::Write, 0)?;
    Ok(asking.ask(Step::Read, 0)? != Outcome::Miss)
}

struct Asking<'a, W> {
    wire: &'a W,
    stream: TcpStream,
    load: OperationStream,
    input: Vec<u8>,
}

impl<'a, W: Wire> Asking<'a, W> {
    fn connect(wire: &'a W, address: SocketAddr, workload: &Workload) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let load = OperationStream::new(workload, &KeySpace::new(workload.records), 0, 0, 1)
            .map_err(io::Error::other)?;
        let mut asking = Asking {
            wire,
            stream,
            load,
            input: Vec::new(),
        };
        let mut out = Vec::new();
        let replies = wire.greet(&mut out);
        asking.stream.write_all(&out)?;
        for _ in 0..replies {
            answer(wire, &mut asking.stream, Step::Write, 0, &mut asking.input)?;
        }
        Ok(asking)
    }

    fn ask(&mut self, step: Step, key_id: u64) -> io::Result<Outcome> {
        let operation = self.load.load_operation(key_id);
        let (mut key, mut value, mut out) = (Vec::new(), Vec::new(), Vec::new());
        self.load.write_key(&operation, &mut key);
        if step == Step::Write {
            self.load.write_value(&operation, &mut value);
        }
        self.wire.encode(step, &operation, &key, &value, &mut out);
        self.stream.write_all(&out)?;
        answer(self.wire, &mut self.stream, step, key_id, &mut self.input)
    }
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
