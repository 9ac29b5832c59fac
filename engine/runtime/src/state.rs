//! The cluster's state on disk (`ring.bin`), and the thread that writes it, off the data path.
//!
//! Owns the file and its replacement: written beside, synced, renamed, so that it is always one whole state. Never looks
//! into it: the core seals what it wants kept, and checks it at the next start.
//!
//! Invariants:
//! - of several states that wait only the newest is written;
//! - a state that could not be written is tried again until it is, or a newer one is there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const NAME: &str = "ring.bin";

/// Between a failed try and the next.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the state of a directory; none where none was ever kept.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read(dir: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(dir.join(NAME)) {
        Ok(state) => Ok(Some(state)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the state of a directory, whole and on stable media.
fn write(dir: &Path, state: &[u8]) -> io::Result<()> {
    let (path, beside) = (dir.join(NAME), dir.join("ring.bin.new"));
    let mut file = File::create(&beside)?;
    file.write_all(state)?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    File::open(dir)?.sync_all()
}

/// The thread that keeps the state, and what it is to write.
#[derive(Debug)]
pub(crate) struct StateKeeper {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    state: Option<Vec<u8>>,
    is_ending: bool,
}

impl StateKeeper {
    /// Starts the thread for a directory.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(crate) fn start(dir: PathBuf) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            dir,
            waiting: Mutex::default(),
            changed: Condvar::new(),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("gramme-state".into())
            .spawn(move || own.run())?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Keeps this state instead of any before it. Never waits for the disk.
    pub(crate) fn keep(&self, state: Vec<u8>) {
        self.shared.lock().state = Some(state);
        self.shared.changed.notify_one();
    }

    /// Writes what waits, tried once, and ends the thread.
    pub(crate) fn end(&self) {
        self.shared.lock().is_ending = true;
        self.shared.changed.notify_one();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // It does not panic; if it did, what it was to write is lost like any last state.
            let _ = thread.join();
        }
    }
}

impl Drop for StateKeeper {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What is behind the lock is never left half-changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let (state, is_ending) = {
                let mut waiting = self.lock();
                while waiting.state.is_none() && !waiting.is_ending {
                    waiting = self
                        .changed
                        .wait(waiting)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                (waiting.state.take(), waiting.is_ending)
            };
            if let Some(state) = state
                && let Err(error) = write(&self.dir, &state)
            {
                tracing::warn!(%error, "the cluster's state could not be kept in {}", self.dir.display());
                self.rest(state);
            }
            if is_ending {
                return;
            }
        }
    }

    /// Puts a state back, unless there is a newer one, and waits before the next try.
    fn rest(&self, state: Vec<u8>) {
        let mut waiting = self.lock();
        waiting.state.get_or_insert(state);
        if !waiting.is_ending {
            let _ = self
                .changed
                .wait_timeout(waiting, RETRY_INTERVAL)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_state_is_read_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(read(dir.path()).expect("read"), None);
        let keeper = StateKeeper::start(dir.path().into()).expect("started");
        for number in 0..200_u8 {
            keeper.keep(vec![number; 100]);
        }
        keeper.end();
        assert_eq!(read(dir.path()).expect("read"), Some(vec![199; 100]));
    }

    #[test]
    fn a_state_that_could_not_be_written_is_written_later() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let missing = dir.path().join("later");
        let keeper = StateKeeper::start(missing.clone()).expect("started");
        keeper.keep(b"state".to_vec());
        std::thread::sleep(Duration::from_millis(50));
        fs::create_dir(&missing).expect("made");
        let begun = std::time::Instant::now();
        while read(&missing).expect("read").is_none() {
            assert!(begun.elapsed() < Duration::from_secs(20), "never written");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
