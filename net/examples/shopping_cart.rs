//! The shopping cart of the Dynamo paper: two carts that did not see each other, and nothing that was added is lost.
//!
//! `cargo run --release --example shopping_cart [HOST:PORT]`: without an address it starts a node of its own.

mod node;

use std::error::Error;

use gramme::client::{Client, Read};
use gramme::merge::Union;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (address, node) = match std::env::args().nth(1) {
        Some(address) => (address, None),
        None => {
            let node = node::start(&directory.path().join("data"), 2)?;
            (node.address.to_string(), Some(node))
        }
    };
    let client = Client::connect(&address).await?;
    let cart = b"cart/alice";
    client.delete(cart, None).await?;

    // Alice fills her cart.
    client.update(cart, &Union, add("book")).await?;
    let seen = client.get(cart).await?;
    show("both devices read", &seen);

    // Her phone and her laptop both change what they read, neither sees the other.
    let context = seen.context.as_ref();
    client.put(cart, b"book\npen", context).await?;
    client.put(cart, b"book\nlamp", context).await?;
    let diverged = client.get(cart).await?;
    show("the store keeps both", &diverged);

    // The next change merges what is there, and supersedes exactly that.
    client.update(cart, &Union, add("mug")).await?;
    let merged = client.get(cart).await?;
    show("merged by the next update", &merged);

    let items = merged.latest().unwrap_or_default();
    for item in ["book", "pen", "lamp", "mug"] {
        let is_there = items
            .split(|byte| *byte == b'\n')
            .any(|there| there == item.as_bytes());
        assert!(is_there, "{item} was lost");
    }
    assert_eq!(merged.values.len(), 1, "one cart again");
    println!("nothing was lost");
    if let Some(node) = node {
        node.engine.stop()?;
    }
    Ok(())
}

/// Adds an item to a cart of a line each.
fn add(item: &str) -> impl FnMut(Option<Vec<u8>>) -> Vec<u8> {
    move |cart| {
        let mut cart = cart.unwrap_or_default();
        if !cart.is_empty() {
            cart.push(b'\n');
        }
        cart.extend_from_slice(item.as_bytes());
        cart
    }
}

fn show(what: &str, read: &Read) {
    let carts: Vec<String> = read
        .values
        .iter()
        .map(|cart| String::from_utf8_lossy(cart).replace('\n', " + "))
        .collect();
    println!("{what}: {}", carts.join("  |  "));
}
