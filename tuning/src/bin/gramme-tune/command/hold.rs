//! `gramme-tune hold`: a wake-up bound for the whole machine, for as long as this process lives.

use crate::args::Hold;
use crate::{Exit, Failure};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::Command;

const DEVICE: &str = "/dev/cpu_dma_latency";

pub(crate) fn run(args: &Hold) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| {
        Failure::Failed(format!(
            "{DEVICE}: {error}; run as root, on bare metal or a guest that has it"
        ))
    };
    let mut device = OpenOptions::new()
        .write(true)
        .open(DEVICE)
        .map_err(failed)?;
    device
        .write_all(&args.latency_us.to_ne_bytes())
        .map_err(failed)?;
    // The kernel forgets the bound when the file is closed, so `device` lives to the end.
    let Some((program, rest)) = args.command.split_first() else {
        eprintln!(
            "wake-ups are bound to {} µs while this runs",
            args.latency_us
        );
        loop {
            std::thread::park();
        }
    };
    let status = Command::new(program).args(rest).status().map_err(|error| {
        Failure::Failed(format!(
            "{program} cannot be run: {error}; check its name and path"
        ))
    })?;
    drop(device);
    match status.code() {
        Some(0) => Ok(Exit::Fine),
        // What was run answers for itself.
        Some(code) => std::process::exit(code),
        None => Err(Failure::Failed(format!("{program} was ended by a signal"))),
    }
}
