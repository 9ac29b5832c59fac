//! The agent: runs its share of a load when it is told to.
//!
//! Owns one job at a time. Never opens an embedded store (a stranger must not be able to make it write files), and
//! never runs a plan that fails its checks.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::protocol::{Job, Line, Start, VERSION, Word};
use crate::load::window::Window;
use crate::measure::target::Target;
use crate::record::host::HostFacts;
use crate::target::address::Address;
use crate::target::open::StoreSettings;
use crate::workload::KeySpace;

/// The judge must say what it wants within this, and start within that.
const JOB_TIMEOUT: Duration = Duration::from_secs(10);
const START_TIMEOUT: Duration = Duration::from_secs(300);

/// Serves jobs one after the other; `told` is shown what happens. Ends only when listening fails.
pub fn serve(listener: &TcpListener, token: Option<&str>, told: &dyn Fn(String)) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept()?;
        match converse(stream, token, told) {
            Ok(()) => told(format!("{peer}: done")),
            Err(error) => told(format!("{peer}: {error}")),
        }
    }
}

fn converse(stream: TcpStream, token: Option<&str>, told: &dyn Fn(String)) -> io::Result<()> {
    stream.set_read_timeout(Some(JOB_TIMEOUT))?;
    let mut line = Line::over(stream)?;
    let job: Job = line.hear()?;
    let target = match accept(&job, token) {
        Ok(target) => target,
        Err(problem) => {
            line.say(&Word::Failed(problem.clone()))?;
            return Err(io::Error::other(problem));
        }
    };
    line.say(&Word::Ready(HostFacts::gather(None)))?;
    line.stream().set_read_timeout(Some(START_TIMEOUT))?;
    let Start::Go = line.hear()?;
    told(format!(
        "share {} of {} against {}",
        job.plan.share_index + 1,
        job.plan.share_count,
        job.target
    ));
    let space = KeySpace::new(job.workload.records);
    let mut broken = None;
    let driven = target.drive(&job.plan, &job.workload, &space, |window: &Window| {
        if broken.is_none() {
            broken = line.say(&Word::Window(Box::new(window.clone()))).err();
        }
    });
    if let Some(error) = broken {
        return Err(error);
    }
    match driven {
        Ok(driven) => line.say(&Word::Done(driven.first_error)),
        Err(error) => line.say(&Word::Failed(error.to_string())),
    }
}

/// Checks a job and opens its target.
fn accept(job: &Job, token: Option<&str>) -> Result<Target, String> {
    if job.version != VERSION {
        return Err(format!(
            "this agent speaks version {VERSION} and the judge {}: use one build for both",
            job.version
        ));
    }
    if token.is_some_and(|token| job.token.as_deref() != Some(token)) {
        return Err(
            "the token is not the agent's: give both the same GRAMME_BENCH_TOKEN".to_owned(),
        );
    }
    if let Some(problem) = job.workload.problem().or_else(|| job.plan.problem()) {
        return Err(problem);
    }
    match job.target.parse::<Address>()? {
        Address::Embedded { .. } => {
            Err("an agent drives servers only, never embedded stores".to_owned())
        }
        address @ Address::Server { .. } => {
            let settings = StoreSettings {
                cache_bytes: 0,
                shards: None,
                on_owner: false,
                timeout: job.plan.timeout,
            };
            Target::open(&address, &job.workload, &settings).map_err(|error| error.to_string())
        }
    }
}
