//! Where a pipeline's answers wait for its thread.
//!
//! A channel that looks on before it sleeps (`crossbeam-channel` yields several times) costs a thread with one request in
//! flight more than the request: with sixteen such threads on two cores a third of all CPU went into handing the cores
//! round. So only who has many requests in flight looks on, since answers to some of them are about to come.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::calls::Replies;

/// How often a thread with many requests in flight lets others run before it sleeps.
const LOOKS: u32 = 8;

/// Answers that have come, in order.
#[derive(Default)]
pub(crate) struct Tray {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    replies: VecDeque<Replies>,
    /// Whether its thread sleeps: only then a shard pays for waking it.
    is_awaited: bool,
}

impl Tray {
    /// Puts answers in, and wakes the thread if it sleeps.
    pub(crate) fn put(&self, replies: Replies) {
        let mut state = self.lock();
        state.replies.push_back(replies);
        let is_awaited = core::mem::take(&mut state.is_awaited);
        drop(state);
        if is_awaited {
            self.arrived.notify_one();
        }
    }

    /// The next answers, if there are any.
    pub(crate) fn take(&self) -> Option<Replies> {
        self.lock().replies.pop_front()
    }

    /// Waits for the next answers, for ever or until a time; `may_look_on` when many are on their way.
    pub(crate) fn wait(&self, until: Option<Instant>, may_look_on: bool) -> Option<Replies> {
        for _ in 0..if may_look_on { LOOKS } else { 0 } {
            if let Some(replies) = self.take() {
                return Some(replies);
            }
            std::thread::yield_now();
        }
        let mut state = self.lock();
        loop {
            if let Some(replies) = state.replies.pop_front() {
                state.is_awaited = false;
                return Some(replies);
            }
            state.is_awaited = true;
            state = match until {
                None => ignore(self.arrived.wait(state)),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.is_awaited = false;
                        return None;
                    }
                    ignore(self.arrived.wait_timeout(state, left)).0
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        ignore(self.state.lock())
    }
}

/// No code panics while it holds the lock, so what it guards is whole.
fn ignore<T>(locked: Result<T, PoisonError<T>>) -> T {
    locked.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn replies(tag: u64) -> Replies {
        Replies {
            list: vec![(tag, gramme_core::port::Outcome::Exists(true))],
            bytes: Vec::new(),
        }
    }

    #[test]
    fn answers_come_in_order_and_wake_who_sleeps() {
        let tray = Arc::new(Tray::default());
        tray.put(replies(1));
        let giver = {
            let tray = Arc::clone(&tray);
            std::thread::spawn(move || {
                for tag in 2..200 {
                    if tag % 10 == 0 {
                        std::thread::sleep(Duration::from_micros(300));
                    }
                    tray.put(replies(tag));
                }
            })
        };
        for tag in 1..200 {
            let taken = tray.wait(None, tag % 2 == 0).expect("without an end");
            assert_eq!(taken.list[0].0, tag);
        }
        giver.join().expect("gives");
        assert!(tray.take().is_none());
    }

    #[test]
    fn a_wait_ends_at_its_time() {
        let tray = Tray::default();
        let until = Instant::now() + Duration::from_millis(2);
        assert!(tray.wait(Some(until), true).is_none());
        assert!(Instant::now() >= until);
    }
}
