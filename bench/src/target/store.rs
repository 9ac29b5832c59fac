//! Stores that live inside the caller's process.
//!
//! Owns the two traits through which they are measured: `EmbeddedStore` for stores that do one operation at a time
//! (which is all of them but gramme's engine), and `StoreSession` for the thread that drives one, pipelined or not.
//! Never times anything: the load does.
//!
//! A store from elsewhere joins by implementing `EmbeddedStore` (or, to keep many requests in flight from one
//! thread, `SessionSource` and `StoreSession` directly) and is then run by `load::threads` like the others.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::outcome::{ErrorKind, Outcome};
use crate::workload::{Durability, Operation, Verb};

/// What a store reports when it fails.
#[derive(Debug)]
pub struct StoreError {
    /// What was being done.
    pub doing: &'static str,
    /// What the store said.
    pub cause: Box<dyn Error + Send + Sync>,
}

impl StoreError {
    /// An error of a store.
    pub fn new(doing: &'static str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        StoreError {
            doing,
            cause: cause.into(),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.doing, self.cause)
    }
}

impl Error for StoreError {}

/// A store that does one operation at a time for each calling thread.
pub trait EmbeddedStore: Send + Sync {
    /// Name and version, and the settings that shape its figures.
    fn facts(&self) -> Vec<(String, String)>;
    /// Shows the value of `key` to `seen`, or `None`.
    fn get(&self, key: &[u8], seen: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), StoreError>;
    /// Writes one value.
    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), StoreError>;
    /// Deletes one key.
    fn delete(&self, key: &[u8], durability: Durability) -> Result<(), StoreError>;
    /// Whether the store can do `verb`.
    fn can(&self, _verb: Verb) -> bool {
        true
    }
    /// Reads up to `keys` keys from `key` on; how many there were, or `None` when the store cannot scan.
    fn scan(&self, key: &[u8], keys: u32) -> Result<Option<u32>, StoreError>;
    /// Writes many values at once, as the store's users would load it.
    fn load(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
        pairs
            .iter()
            .try_for_each(|(key, value)| self.put(key, value, Durability::Default))
    }
    /// Called once after a load, so that what a run measures is not the load's own leftovers.
    fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// One operation with its bytes.
#[derive(Debug, Clone, Copy)]
pub struct StoreRequest<'a> {
    /// What to do.
    pub operation: &'a Operation,
    /// The key.
    pub key: &'a [u8],
    /// The value to write; empty for those that write none.
    pub value: &'a [u8],
}

/// One thread's way into a store. Tags come back in any order, each once.
pub trait StoreSession {
    /// Starts an operation. A session without pipelining may finish it before it returns; its end is reported by
    /// `completions` in any case.
    fn submit(&mut self, request: StoreRequest<'_>, tag: u32);
    /// Reports what has ended since. While nothing has and something is in flight, it may block for up to `wait`.
    fn completions(&mut self, wait: Duration, ended: &mut dyn FnMut(u32, Outcome));
    /// The first error that the store gave, in its own words.
    fn first_error(&self) -> Option<&str>;
}

/// Anything that gives sessions to threads.
pub trait SessionSource: Send + Sync {
    /// A session for the calling thread.
    fn session(&self) -> Result<Box<dyn StoreSession + '_>, StoreError>;
    /// The store behind it.
    fn store(&self) -> &dyn EmbeddedStore;
    /// The engine on whose shards' own cores the load is to run, where that was asked for.
    fn on_owner(&self) -> Option<&gramme::Engine> {
        None
    }
}

/// Sessions that block.
pub struct Blocking<S>(pub S);

impl<S: EmbeddedStore> SessionSource for Blocking<S> {
    fn session(&self) -> Result<Box<dyn StoreSession + '_>, StoreError> {
        Ok(Box::new(BlockingSession {
            store: &self.0,
            ended: VecDeque::new(),
            first_error: None,
        }))
    }

    fn store(&self) -> &dyn EmbeddedStore {
        &self.0
    }
}

struct BlockingSession<'a, S> {
    store: &'a S,
    ended: VecDeque<(u32, Outcome)>,
    first_error: Option<String>,
}

impl<S: EmbeddedStore> BlockingSession<'_, S> {
    fn execute(&self, request: StoreRequest<'_>) -> Result<Outcome, StoreError> {
        let StoreRequest {
            operation,
            key,
            value,
        } = request;
        match operation.verb {
            Verb::Read => self.read(operation.key_id, key),
            Verb::Write | Verb::Insert => self
                .store
                .put(key, value, operation.durability)
                .map(|()| Outcome::Done),
            Verb::Delete => self
                .store
                .delete(key, operation.durability)
                .map(|()| Outcome::Done),
            Verb::Update => {
                let found = self.read(operation.key_id, key)?;
                self.store.put(key, value, operation.durability)?;
                Ok(found)
            }
            Verb::Scan => Ok(match self.store.scan(key, operation.scan_keys)? {
                Some(_) => Outcome::Done,
                None => Outcome::Failed(ErrorKind::Unsupported),
            }),
        }
    }

    fn read(&self, key_id: u64, key: &[u8]) -> Result<Outcome, StoreError> {
        let mut outcome = Outcome::Miss;
        self.store
            .get(key, &mut |value| outcome = Outcome::of_read(key_id, value))?;
        Ok(outcome)
    }
}

impl<S: EmbeddedStore> StoreSession for BlockingSession<'_, S> {
    fn submit(&mut self, request: StoreRequest<'_>, tag: u32) {
        let outcome = self.execute(request).unwrap_or_else(|error| {
            self.first_error.get_or_insert_with(|| error.to_string());
            Outcome::Failed(ErrorKind::Refused)
        });
        self.ended.push_back((tag, outcome));
    }

    fn completions(&mut self, _wait: Duration, ended: &mut dyn FnMut(u32, Outcome)) {
        while let Some((tag, outcome)) = self.ended.pop_front() {
            ended(tag, outcome);
        }
    }

    fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }
}
