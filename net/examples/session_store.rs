//! Web sessions: written blindly by the last request, expiring by themselves, many at once over one connection.
//!
//! `cargo run --release --example session_store [HOST:PORT]`: without an address it starts a node of its own.

mod node;

use std::error::Error;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gramme::client::{Call, Outcome, RequestOptions, blocking};
use gramme::core::port::Expiry;

const SESSIONS: u32 = 5_000;
const LIFETIME: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (address, node) = match std::env::args().nth(1) {
        Some(address) => (address, None),
        None => {
            let node = node::start(&directory.path().join("data"), 2)?;
            (node.address.to_string(), Some(node))
        }
    };
    let client = blocking::Client::connect(&address)?;

    let expires = SystemTime::now().duration_since(UNIX_EPOCH)? + LIFETIME;
    let options = RequestOptions::default()
        .deadline(Duration::from_secs(2))
        .expiry(Expiry::AtMs(u64::try_from(expires.as_millis())?));
    let began = Instant::now();
    let puts = (0..SESSIONS).map(|user| {
        let session = format!("{{\"user\":{user}}}");
        Call::put(&key_of(user), session.as_bytes(), None, &options)
    });
    let failed = client
        .pipeline(puts)
        .iter()
        .filter(|result| result.is_err())
        .count();
    println!(
        "{SESSIONS} sessions written in {:?}, {failed} failed",
        began.elapsed()
    );

    let began = Instant::now();
    println!(
        "{} are there after {:?}",
        count(&client, &options),
        began.elapsed()
    );
    std::thread::sleep(LIFETIME + Duration::from_millis(100));
    println!("{} are there after they expired", count(&client, &options));

    if let Some(node) = node {
        node.engine.stop()?;
    }
    Ok(())
}

fn key_of(user: u32) -> Vec<u8> {
    format!("session/{user}").into_bytes()
}

fn count(client: &blocking::Client, options: &RequestOptions) -> usize {
    let gets = (0..SESSIONS).map(|user| Call::get(&key_of(user), options));
    client
        .pipeline(gets)
        .into_iter()
        .filter(|result| matches!(result, Ok(Outcome::Read(read)) if !read.values.is_empty()))
        .count()
}
