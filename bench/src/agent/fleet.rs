//! The judge's side: all agents as one generator.
//!
//! Owns the start and the adding up. Never takes a run for whole when an agent was lost: that is an error.

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::protocol::{Job, Line, Start, VERSION, Word};
use crate::load::plan::LoadPlan;
use crate::load::threads::Driven;
use crate::load::window::{Window, joined};
use crate::stats::latencies::Packed;
use crate::target::address::Address;
use crate::workload::Workload;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Agents whose p99 differ by more than this do not see the same target.
const SKEW: f64 = 2.0;

/// What the agents did together.
#[derive(Debug)]
pub struct FleetDriven {
    /// The joined series.
    pub driven: Driven,
    /// Each agent's own figures, and what is odd about them.
    pub notes: Vec<String>,
}

/// Runs `plan` on all `agents`, each with its share.
pub fn run(
    agents: &[String],
    target: &Address,
    plan: &LoadPlan,
    workload: &Workload,
    mut seen: impl FnMut(&Window),
) -> io::Result<FleetDriven> {
    let token = std::env::var("GRAMME_BENCH_TOKEN").ok();
    let mut lines = Vec::new();
    for (number, agent) in agents.iter().enumerate() {
        let share = LoadPlan {
            share_index: number as u64,
            share_count: agents.len() as u64,
            ..plan.clone()
        };
        let job = Job {
            version: VERSION,
            token: token.clone(),
            target: target.to_string(),
            workload: workload.clone(),
            plan: share,
        };
        lines.push(engage(agent, &job).map_err(|error| of(agent, &error))?);
    }
    for (line, agent) in lines.iter_mut().zip(agents) {
        line.say(&Start::Go).map_err(|error| of(agent, &error))?;
    }
    let (send, receive) = channel::<(usize, io::Result<Word>)>();
    std::thread::scope(|scope| {
        for (number, mut line) in lines.into_iter().enumerate() {
            let send = send.clone();
            // A window comes at least every few seconds; longer silence is a lost agent.
            let patience = plan.window * 4 + plan.timeout + Duration::from_secs(10);
            scope.spawn(move || {
                let silent = line.stream().set_read_timeout(Some(patience));
                loop {
                    let heard = silent
                        .as_ref()
                        .map_err(|error| io::Error::other(error.to_string()))
                        .and_then(|()| line.hear::<Word>());
                    let last = !matches!(heard, Ok(Word::Window(_)));
                    if send.send((number, heard)).is_err() || last {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut parts: BTreeMap<u64, Vec<Window>> = BTreeMap::new();
        let mut each: Vec<Vec<Packed>> = vec![Vec::new(); agents.len()];
        let mut first_error = None;
        for (number, heard) in receive {
            let agent = &agents[number];
            match heard.map_err(|error| of(agent, &error))? {
                Word::Window(window) => {
                    each[number].push(window.response_all());
                    let part = parts.entry(window.index).or_default();
                    part.push(*window);
                    if part.len() == agents.len() {
                        seen(&together(part));
                    }
                }
                Word::Done(error) => first_error = first_error.or(error),
                Word::Failed(why) => return Err(of(agent, &io::Error::other(why))),
                Word::Ready(_) => return Err(of(agent, &io::Error::other("it said ready twice"))),
            }
        }
        let windows = parts.values().map(|part| together(part)).collect();
        Ok(FleetDriven {
            driven: Driven {
                windows,
                first_error,
            },
            notes: notes(agents, &each),
        })
    })
}

fn of(agent: &str, error: &io::Error) -> io::Error {
    io::Error::other(format!("agent {agent}: {error}"))
}

fn engage(agent: &str, job: &Job) -> io::Result<Line> {
    let address = agent
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("the name has no address"))?;
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(READY_TIMEOUT))?;
    let mut line = Line::over(stream)?;
    line.say(job)?;
    match line.hear()? {
        Word::Ready(_) => Ok(line),
        Word::Failed(why) => Err(io::Error::other(why)),
        Word::Window(_) | Word::Done(_) => Err(io::Error::other("it began without being told to")),
    }
}

fn together(parts: &[Window]) -> Window {
    Window {
        index: parts.first().map_or(0, |part| part.index),
        backlog: parts.iter().map(|part| part.backlog).sum(),
        busy_ns: parts.iter().map(|part| part.busy_ns).sum(),
        spun_ns: parts.iter().map(|part| part.spun_ns).sum(),
        cpu_share_max: parts
            .iter()
            .map(|part| part.cpu_share_max)
            .fold(0.0, f64::max),
        ..joined(parts)
    }
}

fn notes(agents: &[String], each: &[Vec<Packed>]) -> Vec<String> {
    let p99_us: Vec<f64> = each
        .iter()
        .map(|windows| Packed::join(windows).quantile_ns(0.99) as f64 / 1000.0)
        .collect();
    let shown: Vec<String> = agents
        .iter()
        .zip(&p99_us)
        .map(|(agent, us)| format!("{agent} {us:.0} us"))
        .collect();
    let mut notes = vec![format!("p99 by agent: {}", shown.join(", "))];
    let (least, greatest) = (
        p99_us.iter().copied().fold(f64::MAX, f64::min),
        p99_us.iter().copied().fold(0.0, f64::max),
    );
    if greatest > least * SKEW {
        notes.push(
            "the agents see different latencies: one of them, or its way to the target, is slower"
                .to_owned(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::serve::serve;
    use super::*;
    use crate::load::plan::Pace;
    use crate::stub::{Behaviour, StubServer};
    use crate::workload::{Process, Shape, preset};

    fn agent(token: Option<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        std::thread::spawn(move || serve(&listener, token, &|_| {}));
        address
    }

    fn plan() -> LoadPlan {
        LoadPlan {
            pace: Pace::Open {
                rate: 400.0,
                process: Process::Fixed,
                shape: Shape::Constant,
            },
            duration: Duration::from_millis(500),
            threads: 1,
            connections: 2,
            depth: 1,
            timeout: Duration::from_secs(2),
            in_flight_max: 1000,
            spin: false,
            seed: 1,
            window: Duration::from_millis(100),
            share_index: 0,
            share_count: 1,
        }
    }

    #[test]
    fn two_agents_send_one_schedule_between_them() {
        let server = StubServer::start(([127, 0, 0, 1], 0).into(), Behaviour::default())
            .expect("a free port");
        let target: Address = format!("resp://{}", server.address())
            .parse()
            .expect("an address");
        let workload = preset::find("ycsb-b").expect("built in");
        let run = run(
            &[agent(None), agent(None)],
            &target,
            &plan(),
            &workload,
            |_| {},
        )
        .expect("both serve");
        let ended: u64 = run
            .driven
            .windows
            .iter()
            .map(|window| window.counts.ended)
            .sum();
        assert_eq!(ended, 199, "as many as one generator would send");
        assert!(run.notes[0].contains("p99 by agent"));
    }

    #[test]
    fn an_agent_refuses_strangers_and_embedded_stores() {
        let workload = preset::find("ycsb-b").expect("built in");
        let server: Address = "resp://127.0.0.1:1".parse().expect("an address");
        let error = run(
            &[agent(Some("secret"))],
            &server,
            &plan(),
            &workload,
            |_| {},
        )
        .expect_err("no token");
        assert!(error.to_string().contains("GRAMME_BENCH_TOKEN"), "{error}");
        let store: Address = "fjall:/nowhere".parse().expect("an address");
        let error =
            run(&[agent(None)], &store, &plan(), &workload, |_| {}).expect_err("an embedded store");
        assert!(error.to_string().contains("servers only"), "{error}");
    }
}
