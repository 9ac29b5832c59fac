//! Clients that write and read without a pause, and note outside of every node what they were told.
//!
//! Each writes keys of its own, once each, reads some of them back at once, and adds items to carts that it shares with
//! the others. Whatever was acknowledged must be there: at once where it is read back, and at the end through every node.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gramme::client::blocking::Client;
use gramme::client::{ClientError, ClientOptions, RequestOptions};
use gramme::merge::Union;
use gramme_core::port::Durability;

use crate::cluster::{Cluster, WAIT};

const WRITERS: usize = 3;
const CARTS: usize = 2;

/// What one client was told.
#[derive(Default)]
struct Told {
    operations: u64,
    acknowledged: u64,
    failures: Vec<String>,
    keys: Vec<String>,
    items: Vec<BTreeSet<Vec<u8>>>,
    /// Reads that did not show what had been acknowledged before.
    missed: Vec<String>,
    longest: Duration,
}

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Told>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) operations: u64,
    pub(crate) acknowledged: u64,
    pub(crate) faults: u64,
    pub(crate) failures: Vec<String>,
    /// The first `missed` are of reads that did not show at once what had been acknowledged; the others never came back.
    pub(crate) lost: Vec<String>,
    pub(crate) missed: usize,
    /// Those that were acknowledged.
    pub(crate) keys: Vec<String>,
    longest: Duration,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "record {}: operations {}, acknowledged {}, failed {}, faults {}, longest {:.0?}, lost {}",
            self.name,
            self.operations,
            self.acknowledged,
            self.failures.len(),
            self.faults,
            self.longest,
            self.lost.len()
        )
    }
}

fn rules(durability: Durability) -> RequestOptions {
    RequestOptions::default()
        .durability(durability)
        .quorum(3, 2, 2)
}

/// Long enough that a byte that changes in a frame is mostly one of a value.
pub(crate) fn value_of(key: &str) -> Vec<u8> {
    format!("value of {key} ").repeat(20).into_bytes()
}

/// Whether a client could have added it.
fn is_item(item: &[u8]) -> bool {
    let text = std::str::from_utf8(item).unwrap_or_default();
    let parts = text.split_once('-');
    parts.is_some_and(|(writer, number)| {
        writer.parse().is_ok_and(|writer: usize| writer < WRITERS)
            && number
                .parse()
                .is_ok_and(|number: usize| number.is_multiple_of(4))
    })
}

/// How long the next operation waits: the machine has other things to do.
const PAUSE: Duration = Duration::from_millis(1);

impl Load {
    /// Begins; `name` sets its keys apart.
    pub(crate) fn start(cluster: &Cluster, name: &str, durability: Durability) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..WRITERS).map(|writer| {
            let (stop, name) = (Arc::clone(&stop), name.to_owned());
            let mut addresses = cluster.addresses();
            addresses.rotate_left(writer);
            let rules = rules(durability);
            std::thread::spawn(move || work(&stop, (&name, writer), &addresses, rules))
        });
        Self {
            clients: clients.collect(),
            stop,
        }
    }

    /// Ends, and looks through every node for what was acknowledged.
    pub(crate) fn finish(self, cluster: &Cluster, (name, faults): (&str, u64)) -> Record {
        self.stop.store(true, Ordering::Relaxed);
        let told: Vec<Told> = self
            .clients
            .into_iter()
            .map(|client| client.join().expect("a client"))
            .collect();
        let mut record = Record {
            name: name.to_owned(),
            faults,
            ..Record::default()
        };
        for told in &told {
            record.operations += told.operations;
            record.acknowledged += told.acknowledged;
            record.keys.extend_from_slice(&told.keys);
            record.failures.extend_from_slice(&told.failures);
            record.lost.extend_from_slice(&told.missed);
            record.longest = record.longest.max(told.longest);
        }
        record.missed = record.lost.len();
        for node in 0..cluster.nodes.len() {
            // First to this node; the client may go on to whichever holds the key.
            let mut addresses = cluster.addresses();
            addresses.rotate_left(node);
            let client = Client::connect_with(&addresses, ClientOptions::default());
            let client = client
                .expect("a node answers")
                .with(rules(Durability::Buffered));
            for told in &told {
                for key in told.keys.iter().skip(node).step_by(cluster.nodes.len()) {
                    let values = read_patiently(&client, key);
                    if values.is_empty() || values.iter().any(|value| *value != value_of(key)) {
                        let shown: Vec<_> = values
                            .iter()
                            .map(|value| String::from_utf8_lossy(value))
                            .collect();
                        record.lost.push(format!("{key} at the end: {shown:?}"));
                    }
                }
            }
            for cart in 0..CARTS {
                let key = format!("{name}-cart-{cart}");
                let shown: BTreeSet<Vec<u8>> = read(&client, &key)
                    .iter()
                    .flat_map(|value| {
                        value
                            .split(|byte| *byte == b'\n')
                            .map(<[u8]>::to_vec)
                            .collect::<Vec<_>>()
                    })
                    .collect();
                // An item that was not acknowledged may be there; one that nobody added may not.
                for item in shown.iter().filter(|item| !is_item(item)) {
                    let item = String::from_utf8_lossy(item);
                    record
                        .lost
                        .push(format!("{item} is in {key}, and nobody added it"));
                }
                for item in told.iter().flat_map(|told| &told.items[cart]) {
                    if !shown.contains(item) {
                        record.lost.push(format!(
                            "{} of {key} at the end",
                            String::from_utf8_lossy(item)
                        ));
                    }
                }
            }
        }
        eprintln!("{record}");
        for what in record
            .failures
            .iter()
            .take(5)
            .chain(record.lost.iter().take(5))
        {
            eprintln!("  {what}");
        }
        record
    }
}

/// The values of a key, however long the cluster takes to be able to say.
fn read(client: &Client, key: &str) -> Vec<Vec<u8>> {
    let begun = Instant::now();
    loop {
        match client.get(key.as_bytes()) {
            Ok(read) => return read.values,
            Err(error) => assert!(begun.elapsed() < WAIT, "{key} cannot be read: {error}"),
        }
    }
}

/// What a stand-in or a node that lets go took, since those that are to have it were cut off, is with them when it has been
/// brought there: a sloppy quorum promises no more.
const BROUGHT_WITHIN: Duration = Duration::from_secs(30);

/// The values of a key that has some, as soon as they show.
fn read_patiently(client: &Client, key: &str) -> Vec<Vec<u8>> {
    let begun = Instant::now();
    loop {
        let values = read(client, key);
        if !values.is_empty() || begun.elapsed() > BROUGHT_WITHIN {
            if begun.elapsed() > Duration::from_millis(100) {
                eprintln!(
                    "  {key} showed after {:.1?}: {} values",
                    begun.elapsed(),
                    values.len()
                );
            }
            return values;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn work(
    stop: &AtomicBool,
    (name, writer): (&str, usize),
    addresses: &[String],
    rules: RequestOptions,
) -> Told {
    let client = Client::connect_with(addresses, ClientOptions::default());
    let client = client.expect("a node answers").with(rules);
    let mut told = Told {
        items: vec![BTreeSet::new(); CARTS],
        ..Told::default()
    };
    let begun = Instant::now();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{name}-{writer}-{number}");
        if told
            .note(&begun, &key, || {
                client.put(key.as_bytes(), &value_of(&key), None)
            })
            .is_some()
        {
            told.keys.push(key);
        }
        if number % 4 == 0 {
            let (cart, item) = (
                number / 4 % CARTS,
                format!("{writer}-{number}").into_bytes(),
            );
            let key = format!("{name}-cart-{cart}");
            // A cart that grows for ever would be all that the machine does.
            if told.items[cart].len() < 100 {
                let added = told.note(&begun, &key, || {
                    client.update(key.as_bytes(), &Union, |value| {
                        let mut items = value.unwrap_or_default();
                        if !items.is_empty() {
                            items.push(b'\n');
                        }
                        items.extend_from_slice(&item);
                        items
                    })
                });
                if added.is_some() {
                    told.items[cart].insert(item);
                }
            }
        }
        if number % 3 == 0
            && let Some(key) = told.keys.get(number * 7 % told.keys.len().max(1)).cloned()
            && let Some(read) = told.note(&begun, &key, || client.get(key.as_bytes()))
            && read.values != [value_of(&key)]
        {
            told.missed.push(format!(
                "{key} when it was read after {:.1?}",
                begun.elapsed()
            ));
        }
        std::thread::sleep(PAUSE);
    }
    told
}

impl Told {
    fn note<T>(
        &mut self,
        begun: &Instant,
        key: &str,
        ask: impl FnOnce() -> Result<T, ClientError>,
    ) -> Option<T> {
        self.operations += 1;
        let asked = Instant::now();
        let answer = ask();
        self.longest = self.longest.max(asked.elapsed());
        match answer {
            Ok(answer) => {
                self.acknowledged += 1;
                Some(answer)
            }
            // Another client was first each time: told so, nothing was lost.
            Err(ClientError::Contended { .. }) => None,
            Err(error) => {
                self.failures.push(format!(
                    "{key} after {:.1?}, {:.1?}: {error}",
                    begun.elapsed(),
                    asked.elapsed()
                ));
                None
            }
        }
    }
}
