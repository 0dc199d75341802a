//! Locks of one machine, in memory: another run may hold one for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runbook::base::RunId;
use runbook::port::{LockError, LockGuard, Locks};

use super::clock::ManualClock;

/// Holders by name, each with how long another run still holds it.
type Held = BTreeMap<String, (String, Option<Duration>)>;

#[derive(Clone)]
pub struct SharedLocks {
    clock: ManualClock,
    /// Who holds a name, and whether by another run until a time.
    held: Arc<Mutex<Held>>,
}

struct Guard {
    name: String,
    over: Option<String>,
    locks: SharedLocks,
}

impl SharedLocks {
    pub fn new(clock: &ManualClock) -> Self {
        Self { clock: clock.clone(), held: Arc::default() }
    }

    /// Another run holds a name for this long.
    pub fn taken_by(&self, name: &str, run: &str, until: Duration) {
        self.held.lock().expect("not poisoned").insert(name.to_owned(), (run.to_owned(), Some(until)));
    }

    pub fn holders(&self) -> Vec<String> {
        self.held.lock().expect("not poisoned").keys().cloned().collect()
    }
}

impl Locks for SharedLocks {
    fn acquire(&self, name: &str, run: &RunId) -> Result<Box<dyn LockGuard>, LockError> {
        let mut held = self.held.lock().expect("not poisoned");
        let before = held.get(name).cloned();
        if let Some((holder, Some(until))) = &before
            && *until > self.clock.elapsed()
        {
            return Err(LockError::Held { name: name.to_owned(), holder: holder.clone(), pid: 1 });
        }
        held.insert(name.to_owned(), (run.to_string(), None));
        let over = before.map(|(holder, _)| holder).filter(|holder| *holder != run.as_str());
        Ok(Box::new(Guard { name: name.to_owned(), over, locks: self.clone() }))
    }
}

impl LockGuard for Guard {
    fn name(&self) -> &str {
        &self.name
    }
    fn over(&self) -> Option<&str> {
        self.over.as_deref()
    }
    fn release(self: Box<Self>) {
        self.locks.held.lock().expect("not poisoned").remove(&self.name);
    }
}
