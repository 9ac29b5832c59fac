//! `gramme bench limits`, `gramme bench stub` and `gramme bench agent`: what is not about a target.
//!
//! Owns their output.

use std::io::{self, Write};
use std::net::TcpListener;
use std::path::Path;

use super::args::{AgentArgs, LimitsArgs, StubArgs};
use super::exit::{Ended, Failure};
use crate::agent::serve::serve;
use crate::limits::{LimitsReport, SCHEMA, disk, generator, host};
use crate::record::host::HostFacts;
use crate::stub::{Behaviour, StubServer};

/// Measures the machine.
pub fn limits(args: &LimitsArgs) -> Result<Ended, Failure> {
    eprintln!("measuring system calls, timers and loopback …");
    let mut figures = host::measure(args.duration).map_err(Failure::invalid)?;
    eprintln!("measuring the generator …");
    figures.extend(generator::measure(args.duration).map_err(Failure::invalid)?);
    if let Some(directory) = &args.dir {
        eprintln!("measuring the disk under {} …", directory.display());
        let measured = disk::measure(directory, args.file, args.duration);
        figures.extend(measured.map_err(|error| {
            Failure::invalid(format!(
                "cannot measure the disk under {}: {error}",
                directory.display()
            ))
        })?);
    }
    let document = LimitsReport {
        schema: SCHEMA.to_owned(),
        limits: figures,
        host: HostFacts::gather(args.dir.as_deref().map(Path::new)),
    };
    if let Some(out) = &args.out {
        let json = serde_json::to_string_pretty(&document).map_err(Failure::invalid)? + "\n";
        std::fs::create_dir_all(out)
            .and_then(|()| std::fs::write(out.join("limits.json"), json))
            .map_err(|error| {
                Failure::invalid(format!(
                    "cannot save the limits in {}: {error}",
                    out.display()
                ))
            })?;
    }
    let text = if args.json {
        serde_json::to_string_pretty(&document).map_err(Failure::invalid)? + "\n"
    } else {
        as_text(&document)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::invalid)?;
    Ok(Ended::Met)
}

/// The limits for a person.
pub fn as_text(document: &LimitsReport) -> String {
    let width = document
        .limits
        .iter()
        .map(|figure| figure.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for figure in &document.limits {
        let digits = if figure.value < 100.0 { 1 } else { 0 };
        text += &format!(
            "{:<width$}  {:>12.digits$} {:<5}{}\n",
            figure.name, figure.value, figure.unit, figure.note
        );
    }
    if !document
        .limits
        .iter()
        .any(|figure| figure.name.contains("KiB"))
    {
        text += "the disk was not measured: give --dir DIR\n";
    }
    text
}

/// Serves a synthetic server until it is killed.
pub fn stub(args: &StubArgs) -> Result<Ended, Failure> {
    if args.stall > args.every && !args.every.is_zero() {
        return Err(Failure::usage("--stall must fit into --every"));
    }
    let behaviour = Behaviour {
        service: args.service,
        stall: args.stall,
        every: args.every,
    };
    let server = StubServer::start(args.listen, behaviour)
        .map_err(|error| Failure::invalid(format!("cannot listen on {}: {error}", args.listen)))?;
    println!("listening on {}", server.address());
    server.wait().map_err(Failure::invalid)?;
    Ok(Ended::Met)
}

/// Generates load for others until it is killed.
pub fn agent(args: &AgentArgs) -> Result<Ended, Failure> {
    let token = std::env::var("GRAMME_BENCH_TOKEN").ok();
    if !args.listen.ip().is_loopback() && token.is_none() && !args.insecure {
        return Err(Failure::usage(format!(
            "{} can be reached from elsewhere, and an agent sends load wherever it is told to: set GRAMME_BENCH_TOKEN on both sides, or say --insecure",
            args.listen
        )));
    }
    let listener = TcpListener::bind(args.listen)
        .map_err(|error| Failure::invalid(format!("cannot listen on {}: {error}", args.listen)))?;
    println!(
        "listening on {}",
        listener.local_addr().map_err(Failure::invalid)?
    );
    serve(&listener, token.as_deref(), &|what| eprintln!("{what}")).map_err(Failure::invalid)?;
    Ok(Ended::Met)
}
