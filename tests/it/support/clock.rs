//! A clock that moves only when nothing else can: to the next moment somebody waits for.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use runbook::action::BoxFuture;
use runbook::base::{Timestamp, clock};
use runbook::port::Clock;

/// More jumps than any test needs: the run will never end by itself.
const JUMPS: u32 = 200_000;

#[derive(Clone)]
pub struct ManualClock {
    began: Instant,
    at: Timestamp,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    elapsed: Duration,
    jumps: u32,
    next_id: u64,
    sleepers: BTreeMap<(Duration, u64), Option<Waker>>,
    /// When somebody sets the wall clock, and by how many seconds.
    settings: Vec<(Duration, i64)>,
}

impl ManualClock {
    pub fn starting_at(at: Timestamp) -> Self {
        Self { began: clock::monotonic(), at, shared: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the wall clock at these moments; the monotonic one goes on as ever.
    pub fn set_wall_by(&self, settings: Vec<(Duration, i64)>) {
        self.lock().settings = settings;
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.lock().elapsed
    }

    /// Moves to the next moment somebody waits for. Called when everything else has come to rest.
    pub fn jump(&self) {
        let mut shared = self.lock();
        let Some(((next, _), _)) = shared.sleepers.first_key_value() else { return };
        shared.elapsed = shared.elapsed.max(*next);
        shared.jumps += 1;
        assert!(shared.jumps < JUMPS, "the run does not end");
        let elapsed = shared.elapsed;
        let due = shared.sleepers.iter_mut().take_while(|((at, _), _)| *at <= elapsed);
        let wakers: Vec<Waker> = due.filter_map(|(_, waker)| waker.take()).collect();
        drop(shared);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let shared = self.lock();
        let set = shared.settings.iter().filter(|(at, _)| *at <= shared.elapsed).map(|(_, by)| *by).sum();
        clock::after(self.at, shared.elapsed) + jiff::SignedDuration::from_secs(set)
    }
    fn monotonic(&self) -> Instant {
        self.began + self.lock().elapsed
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        let mut shared = self.lock();
        let key = (shared.elapsed + duration, shared.next_id);
        shared.next_id += 1;
        shared.sleepers.insert(key, None);
        drop(shared);
        Box::pin(Sleep { clock: self.clone(), key })
    }
}

struct Sleep {
    clock: ManualClock,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.clock.lock();
        if shared.elapsed >= self.key.0 {
            return Poll::Ready(());
        }
        shared.sleepers.insert(self.key, Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.lock().sleepers.remove(&self.key);
    }
}
