//! A service's own work on the core that owns the key: no hop between threads, which costs more than a whole get.
//!
//! `cargo run --release --example embedded_on_owner`

use std::error::Error;
use std::time::Instant;

use gramme::{Engine, EngineConfig, Options};

const KEY: &[u8] = b"visits/front-page";
const ROUNDS: u32 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut config = EngineConfig::new(dir.path().join("data"));
    config.shards = Some(2);
    config.pin_to_cores = false;
    let engine = Engine::open(config)?;

    let began = Instant::now();
    let visits = engine.on_owner_blocking(KEY, |local| async move {
        // Everything here runs on the owner's core: the value is read where it lies.
        for _ in 0..ROUNDS {
            let visits = local.get_with(KEY, count_of).await?;
            local.put(KEY, &(visits + 1).to_be_bytes()).await?;
        }
        local.get_with(KEY, count_of).await
    })??;
    let here = began.elapsed();
    println!(
        "{visits} visits counted on the owner's core, {:?} each",
        here / ROUNDS
    );

    let began = Instant::now();
    let options = Options::default();
    for _ in 0..ROUNDS / 10 {
        let found = engine.get_blocking(KEY, &options)?;
        let visits = count_of(found.as_ref().map(|found| found.latest()));
        engine.put_blocking(KEY, &(visits + 1).to_be_bytes(), &options)?;
    }
    let there = began.elapsed();
    println!(
        "the same through the handle, a hop each way: {:?} each",
        there / (ROUNDS / 10)
    );

    engine.stop()?;
    Ok(())
}

fn count_of(value: Option<&[u8]>) -> u64 {
    value
        .and_then(|value| value.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}
