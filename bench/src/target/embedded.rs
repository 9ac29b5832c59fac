//! gramme's engine inside this process.
//!
//! Owns the session that keeps requests in flight through the engine's pipeline, and the words about its settings.
//! Never runs anything on a shard's core itself: `load::owners` does, with the engine that this gives it.

use std::path::Path;
use std::time::Duration;

use gramme::core::port::Failure;
use gramme::{Engine, EngineConfig, Error, Options, Pipeline};

use super::open::StoreSettings;
use super::outcome::{ErrorKind, Outcome};
use super::store::{EmbeddedStore, SessionSource, StoreError, StoreRequest, StoreSession};
use crate::workload::{Durability, Operation, Verb};

/// Requests in flight from one thread, at most.
const IN_FLIGHT_MAX: usize = 1 << 16;
/// Time in which everything buffered has been committed, many times over.
const SETTLE: Duration = Duration::from_millis(200);

/// The engine, open.
pub(super) struct Embedded {
    engine: Engine,
    facts: Vec<(String, String)>,
    is_on_owner: bool,
}

impl Embedded {
    pub(super) fn open(directory: &Path, settings: &StoreSettings) -> Result<Self, StoreError> {
        let mut config = EngineConfig::new(directory);
        config.shards = settings.shards;
        config.memory_bytes = settings.cache_bytes.max(1 << 20);
        // The generator's threads need the cores too, unless they are the shards' own.
        config.pin_to_cores = settings.on_owner;
        let commit_interval = config.commit_interval;
        let engine =
            Engine::open(config).map_err(|error| StoreError::new("open gramme's engine", error))?;
        let mode = if settings.on_owner {
            "on the owner's core"
        } else {
            "through the handle"
        };
        let facts = [
            ("store", format!("gramme {}", env!("CARGO_PKG_VERSION"))),
            ("mode", mode.to_owned()),
            ("shards", engine.shards().to_string()),
            ("memory_bytes", settings.cache_bytes.to_string()),
            (
                "default durability",
                format!("buffered, committed within {commit_interval:?}"),
            ),
        ];
        Ok(Embedded {
            engine,
            facts: facts.map(|(name, value)| (name.to_owned(), value)).into(),
            is_on_owner: settings.on_owner,
        })
    }
}

/// What an operation says about itself, as the engine takes it.
pub(crate) fn options_of(operation: &Operation) -> Options<'static> {
    Options {
        durability: durability_of(operation.durability),
        ttl: (operation.ttl_s > 0).then(|| Duration::from_secs(u64::from(operation.ttl_s))),
        ..Options::default()
    }
}

/// The engine's word for a durability.
pub(super) fn durability_of(durability: Durability) -> Option<gramme::core::port::Durability> {
    match durability {
        Durability::Default => None,
        Durability::Durable => Some(gramme::core::port::Durability::One),
    }
}

/// The kind of error that the engine's is.
pub(crate) fn failed(error: &Error) -> Outcome {
    let is_overload = matches!(error, Error::Failed(Failure::Overloaded { .. }));
    Outcome::Failed(if is_overload {
        ErrorKind::Overloaded
    } else {
        ErrorKind::Refused
    })
}

impl EmbeddedStore for Embedded {
    fn facts(&self) -> Vec<(String, String)> {
        self.facts.clone()
    }

    /// Its scans are in the order of tokens, not of keys.
    fn can(&self, verb: Verb) -> bool {
        verb != Verb::Scan
    }

    fn get(&self, key: &[u8], seen: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), StoreError> {
        let found = self
            .engine
            .get_blocking(key, &Options::default())
            .map_err(|error| StoreError::new("read from gramme", error))?;
        seen(found.as_ref().map(|found| found.latest()));
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), StoreError> {
        let options = Options {
            durability: durability_of(durability),
            ..Options::default()
        };
        self.engine
            .put_blocking(key, value, &options)
            .map(|_| ())
            .map_err(|error| StoreError::new("write to gramme", error))
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<(), StoreError> {
        let options = Options {
            durability: durability_of(durability),
            ..Options::default()
        };
        self.engine
            .delete_blocking(key, &options)
            .map(|_| ())
            .map_err(|error| StoreError::new("delete from gramme", error))
    }

    fn scan(&self, _key: &[u8], _keys: u32) -> Result<Option<u32>, StoreError> {
        Ok(None)
    }

    fn load(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
        let mut pipeline = self.engine.pipeline(pairs.len());
        let mut result = Ok(());
        for (tag, (key, value)) in pairs.iter().enumerate() {
            pipeline
                .put(tag as u64, key, value, &Options::default())
                .map_err(|error| StoreError::new("load gramme", error))?;
        }
        let mut refused = Vec::new();
        pipeline.wait(usize::MAX, |reply| match reply.written() {
            Ok(_) => {}
            Err(Error::Failed(Failure::Overloaded { .. })) => refused.push(reply.tag),
            Err(error) => result = Err(StoreError::new("load gramme", error)),
        });
        result?;
        // A loader that is faster than the disk is told to wait; it must not lose records for that.
        for tag in refused {
            let place = usize::try_from(tag).unwrap_or(usize::MAX);
            if let Some((key, value)) = pairs.get(place) {
                self.put_patiently(key, value)?;
            }
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), StoreError> {
        std::thread::sleep(SETTLE);
        Ok(())
    }
}

impl Embedded {
    fn put_patiently(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        const TRIES: u32 = 1000;
        for _ in 0..TRIES {
            match self.engine.put_blocking(key, value, &Options::default()) {
                Ok(_) => return Ok(()),
                Err(Error::Failed(Failure::Overloaded { retry_after_ms })) => {
                    std::thread::sleep(Duration::from_millis(u64::from(retry_after_ms.max(1))));
                }
                Err(error) => return Err(StoreError::new("load gramme", error)),
            }
        }
        Err(StoreError::new(
            "load gramme",
            format!("it was overloaded {TRIES} times in a row"),
        ))
    }
}

impl SessionSource for Embedded {
    fn session(&self) -> Result<Box<dyn StoreSession + '_>, StoreError> {
        Ok(Box::new(PipelineSession {
            pipeline: self.engine.pipeline(IN_FLIGHT_MAX),
            asked: Vec::new(),
            ended_at_once: Vec::new(),
            first_error: None,
        }))
    }

    fn store(&self) -> &dyn EmbeddedStore {
        self
    }

    fn on_owner(&self) -> Option<&Engine> {
        self.is_on_owner.then_some(&self.engine)
    }
}

/// One request in flight, by its tag.
#[derive(Debug, Clone)]
struct Asked {
    operation: Operation,
    /// An update's write that follows its read: key and value.
    then_write: Option<(Vec<u8>, Vec<u8>)>,
    is_read: bool,
}

impl Asked {
    fn read(operation: &Operation, then_write: Option<(Vec<u8>, Vec<u8>)>) -> Self {
        Asked {
            operation: *operation,
            then_write,
            is_read: true,
        }
    }

    fn write(operation: &Operation) -> Self {
        Asked {
            operation: *operation,
            then_write: None,
            is_read: false,
        }
    }
}

/// One thread's pipeline.
struct PipelineSession {
    pipeline: Pipeline,
    /// By tag.
    asked: Vec<Option<Asked>>,
    ended_at_once: Vec<(u32, Outcome)>,
    first_error: Option<String>,
}

impl PipelineSession {
    /// Reports what has ended, and starts the writes of updates whose read has.
    fn take(&mut self, wait: Duration, ended: &mut dyn FnMut(u32, Outcome)) {
        let (asked, first_error) = (&mut self.asked, &mut self.first_error);
        let mut writes = Vec::new();
        let mut take = |reply: gramme::Reply<'_>| {
            let tag = u32::try_from(reply.tag).unwrap_or(u32::MAX);
            let Some(of) = asked.get_mut(tag as usize).and_then(Option::take) else {
                return;
            };
            let result = if of.is_read {
                reply
                    .latest()
                    .map(|value| Outcome::of_read(of.operation.key_id, value))
            } else {
                reply.written().map(|_| Outcome::Done)
            };
            match (result, of.then_write) {
                (Ok(_), Some((key, value))) => writes.push((tag, of.operation, key, value)),
                (Ok(outcome), None) => ended(tag, outcome),
                (Err(error), _) => {
                    first_error.get_or_insert_with(|| error.to_string());
                    ended(tag, failed(&error));
                }
            }
        };
        if wait.is_zero() {
            self.pipeline.poll(&mut take);
        } else {
            self.pipeline.wait_for(1, wait, &mut take);
        }
        for (tag, operation, key, value) in writes {
            self.write(&operation, (&key, &value), tag);
        }
    }

    fn write(&mut self, operation: &Operation, (key, value): (&[u8], &[u8]), tag: u32) {
        let options = options_of(operation);
        let submitted = self.pipeline.put(u64::from(tag), key, value, &options);
        self.keep(submitted, tag, Asked::write(operation));
    }

    fn keep(&mut self, submitted: Result<(), Error>, tag: u32, asked: Asked) {
        if let Err(error) = submitted {
            self.first_error.get_or_insert_with(|| error.to_string());
            self.ended_at_once.push((tag, failed(&error)));
            return;
        }
        let place = tag as usize;
        if self.asked.len() <= place {
            self.asked.resize(place + 1, None);
        }
        self.asked[place] = Some(asked);
    }
}

impl StoreSession for PipelineSession {
    fn submit(&mut self, request: StoreRequest<'_>, tag: u32) {
        let StoreRequest {
            operation,
            key,
            value,
        } = request;
        let options = options_of(operation);
        let name = u64::from(tag);
        match operation.verb {
            Verb::Read => {
                let submitted = self.pipeline.get(name, key, &options);
                self.keep(submitted, tag, Asked::read(operation, None));
            }
            Verb::Update => {
                let submitted = self.pipeline.get(name, key, &options);
                let then_write = Some((key.to_vec(), value.to_vec()));
                self.keep(submitted, tag, Asked::read(operation, then_write));
            }
            Verb::Write | Verb::Insert => self.write(operation, (key, value), tag),
            Verb::Delete => {
                let submitted = self.pipeline.delete(name, key, &options);
                self.keep(submitted, tag, Asked::write(operation));
            }
            Verb::Scan => self
                .ended_at_once
                .push((tag, Outcome::Failed(ErrorKind::Unsupported))),
        }
    }

    fn completions(&mut self, wait: Duration, ended: &mut dyn FnMut(u32, Outcome)) {
        let mut wait = wait;
        for (tag, outcome) in self.ended_at_once.drain(..) {
            ended(tag, outcome);
            wait = Duration::ZERO;
        }
        self.take(wait, ended);
    }

    fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }
}
