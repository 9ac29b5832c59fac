//! gramme inside a service's own process: no socket, a handle that any thread may use.
//!
//! `cargo run --release --example embedded [DIR]`: without a directory, a temporary one.

use std::error::Error;

use gramme::core::port::Durability;
use gramme::merge::Union;
use gramme::{Engine, EngineConfig, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let dir = std::env::args_os()
        .nth(1)
        .map_or_else(|| temporary.path().join("data"), Into::into);
    let mut config = EngineConfig::new(dir);
    config.shards = Some(2);
    config.pin_to_cores = false;
    let engine = Engine::open(config)?;

    // One value, as durable as it is asked for.
    let durable = Options {
        durability: Some(Durability::One),
        ..Options::default()
    };
    let written = engine.put_blocking(b"greeting", b"hello", &durable)?;
    println!(
        "written, on stable media at {} of {} replicas",
        written.receipt.on_stable_media, written.receipt.replicas
    );
    if let Some(found) = engine.get_blocking(b"greeting", &Options::default())? {
        println!("read {:?}", String::from_utf8_lossy(found.latest()));
    }

    // Threads that change one key: each reads, merges, writes; nothing is lost.
    std::thread::scope(|scope| {
        for item in ["bread", "milk", "eggs", "salt"] {
            let engine = engine.clone();
            scope.spawn(move || {
                let add = |list: Option<Vec<u8>>| {
                    let mut list = list.unwrap_or_default();
                    if !list.is_empty() {
                        list.push(b'\n');
                    }
                    list.extend_from_slice(item.as_bytes());
                    list
                };
                engine
                    .update_blocking(b"shopping", &Union, &Options::default(), add)
                    .expect("updated");
            });
        }
    });
    let found = engine.get_blocking(b"shopping", &Options::default())?;
    let siblings: Vec<Vec<u8>> = found.map(|found| found.values).unwrap_or_default();
    println!("the list, in {} concurrent value(s):", siblings.len());
    for sibling in &siblings {
        println!("  {}", String::from_utf8_lossy(sibling).replace('\n', ", "));
    }

    // Many requests in flight from one thread.
    let mut pipeline = engine.pipeline(256);
    let mut answered = 0;
    for number in 0..10_000_u64 {
        while pipeline.in_flight() >= 256 {
            answered += pipeline.wait(1, |reply| {
                reply.written().expect("written");
            });
        }
        pipeline.put(number, &number.to_be_bytes(), b"value", &Options::default())?;
    }
    answered += pipeline.wait(usize::MAX, |reply| {
        reply.written().expect("written");
    });
    println!("{answered} puts through the pipeline");

    engine.stop()?;
    Ok(())
}
