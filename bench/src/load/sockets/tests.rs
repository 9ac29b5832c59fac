//! The sockets' loop against synthetic servers on loopback. What is asserted does not depend on how fast the machine
//! is; the statistics have their own tests in simulated time.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::*;
use crate::target::memcached::Memcached;
use crate::target::resp::Resp;
use crate::workload::{Process, Shape, preset};

/// A server that answers every complete RESP command (an array of bulk strings) with what `answer` says for its
/// number; `None` closes the connection.
fn serve(answer: impl Fn(u64) -> Option<&'static [u8]> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let answer = Arc::new(answer);
    let number = Arc::new(AtomicU64::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (answer, number) = (Arc::clone(&answer), Arc::clone(&number));
            std::thread::spawn(move || {
                let mut chunk = [0; 64 << 10];
                while let Ok(read) = stream.read(&mut chunk) {
                    // Commands are small and come whole on loopback; each begins with an array's mark.
                    let commands = chunk[..read]
                        .windows(2)
                        .filter(|pair| pair[0] == b'*' && pair[1].is_ascii_digit())
                        .count();
                    for _ in 0..commands {
                        let reply = answer(number.fetch_add(1, Ordering::Relaxed));
                        if reply.is_none_or(|reply| stream.write_all(reply).is_err()) {
                            return;
                        }
                    }
                    if read == 0 {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn plan(rate: f64, connections: usize) -> LoadPlan {
    LoadPlan {
        pace: Pace::Open {
            rate,
            process: Process::Fixed,
            shape: Shape::Constant,
        },
        duration: Duration::from_millis(500),
        threads: 1,
        connections,
        depth: 1,
        timeout: Duration::from_secs(2),
        in_flight_max: 100_000,
        spin: false,
        seed: 1,
        window: Duration::from_millis(50),
        share_index: 0,
        share_count: 1,
    }
}

fn drive(address: SocketAddr, plan: &LoadPlan) -> Driven {
    // Reads of 100 keys: requests are small enough for the synthetic server.
    let workload = preset::find("ycsb-c").expect("built in");
    run(
        &Resp::default(),
        address,
        plan,
        &workload,
        &KeySpace::new(100),
        |_| {},
    )
    .expect("loopback works")
}

fn total(driven: &Driven, of: impl Fn(&Window) -> u64) -> u64 {
    driven.windows.iter().map(of).sum()
}

fn errors(driven: &Driven, kind: ErrorKind) -> u64 {
    total(driven, |window| window.counts.errors[kind.index()])
}

#[test]
fn every_scheduled_request_is_sent_and_answered() {
    for (threads, depth) in [(1, 1), (2, 1), (1, 4)] {
        let address = serve(|_| Some(b"$-1\r\n"));
        let driven = drive(
            address,
            &LoadPlan {
                threads,
                depth,
                ..plan(400.0, 5)
            },
        );
        assert_eq!(total(&driven, |window| window.counts.ended), 199);
        assert_eq!(total(&driven, |window| window.counts.misses), 199);
        assert_eq!(driven.first_error, None);
    }
}

/// A stall of 300 ms at the tenth request: those that were due meanwhile waited, and their response says so although
/// they were sent late or answered fast.
#[test]
fn a_stall_is_in_the_response_of_all_that_were_due_meanwhile() {
    let stalled = AtomicBool::new(false);
    let until = Instant::now();
    let address = serve(move |number| {
        if number == 10 {
            std::thread::sleep(Duration::from_millis(300));
            stalled.store(true, Ordering::Relaxed);
        }
        let _ = until;
        Some(b"$-1\r\n")
    });
    let driven = drive(address, &plan(200.0, 1));
    let slow = |ns: u64| {
        total(&driven, |window| {
            window
                .response_all()
                .counts
                .iter()
                .filter(|(value, _)| *value > ns)
                .map(|(_, count)| count)
                .sum()
        })
    };
    // 60 requests were due in 300 ms; half of them waited for more than 150 ms. A slow machine only makes it more.
    assert!(
        slow(150_000_000) >= 25,
        "{} of 99 waited for more than 150 ms",
        slow(150_000_000)
    );
    let served: u64 = total(&driven, |window| {
        window
            .service
            .counts
            .iter()
            .filter(|(value, _)| *value > 150_000_000)
            .map(|(_, count)| count)
            .sum()
    });
    assert!(
        served < 10,
        "a tool that times from the sending sees {served}"
    );
}

#[test]
fn a_server_that_never_answers_leaves_timeouts_with_their_time() {
    let address = serve(|_| {
        std::thread::sleep(Duration::from_secs(60));
        None
    });
    let driven = drive(
        address,
        &LoadPlan {
            timeout: Duration::from_millis(200),
            ..plan(100.0, 2)
        },
    );
    assert_eq!(errors(&driven, ErrorKind::Timeout), 49);
    let least_ns = driven
        .windows
        .iter()
        .filter_map(|window| window.response_all().counts.first().map(|(ns, _)| *ns))
        .min();
    assert!(
        least_ns.expect("recorded") >= 199_000_000,
        "{least_ns:?}: a timeout is in the figures with at least its time"
    );
}

#[test]
fn broken_connections_are_counted_and_made_anew() {
    let address = serve(|number| {
        if number % 10 == 9 {
            None
        } else {
            Some(b"$-1\r\n")
        }
    });
    let driven = drive(address, &plan(400.0, 20));
    let broken = errors(&driven, ErrorKind::Connection);
    assert!(broken > 5, "{broken} broken");
    assert_eq!(total(&driven, |window| window.counts.ended), 199);
    assert!(
        total(&driven, |window| window.counts.misses) > 100,
        "requests went on over new connections"
    );
}

#[test]
fn the_bound_on_requests_in_flight_is_kept_and_counted() {
    let address = serve(|_| {
        std::thread::sleep(Duration::from_millis(100));
        Some(b"$-1\r\n")
    });
    let driven = drive(
        address,
        &LoadPlan {
            in_flight_max: 5,
            ..plan(400.0, 2)
        },
    );
    assert!(driven.windows.iter().all(|window| window.backlog <= 5));
    let capped = total(&driven, |window| window.counts.capped);
    assert!(capped > 100, "{capped} capped");
    assert_eq!(total(&driven, |window| window.counts.ended), 199);
}

#[test]
fn another_protocol_is_an_error_that_is_named() {
    let address = serve(|_| Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let driven = drive(address, &plan(100.0, 1));
    assert!(errors(&driven, ErrorKind::Protocol) > 0);
    assert!(driven.first_error.is_some());
}

#[test]
fn a_closed_loop_keeps_every_connection_busy_and_ends() {
    let address = serve(|_| Some(b"$-1\r\n"));
    let driven = drive(
        address,
        &LoadPlan {
            pace: Pace::Closed,
            ..plan(0.0, 3)
        },
    );
    assert!(total(&driven, |window| window.counts.ended) > 100);
    assert_eq!(total(&driven, |window| window.counts.errors_total()), 0);
}

#[test]
fn nobody_listening_is_an_error_before_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let workload = preset::find("ycsb-c").expect("built in");
    assert!(
        run(
            &Memcached,
            address,
            &plan(10.0, 1),
            &workload,
            &KeySpace::new(100),
            |_| {}
        )
        .is_err()
    );
}
