//! The sink that hands what rules want to know to their couriers, and what is waited for at the end.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::courier::Courier;
use super::{Occasion, Teller};
use crate::action::{Mode, Registry};
use crate::base::Digest;
use crate::base::clock::monotonic;
use crate::engine::Capabilities;
use crate::event::{Event, ProgressUpdate};
use crate::journal::Deliveries;
use crate::language::runbook::{NotifyOn, NotifyRule};
use crate::plan::BoundPlan;
use crate::port::{Sink, SinkError};

/// How many occasions may wait for one rule.
const WAITING: usize = 256;
/// How long couriers that were told to end are waited for.
const GRACE: Duration = Duration::from_secs(3);

/// What deliveries need.
pub struct Post {
    /// The frozen plan.
    pub plan: Arc<BoundPlan>,
    /// The actions.
    pub registry: Registry,
    /// Hands with a folder of their own.
    pub hands: Arc<dyn Capabilities>,
    /// The file of deliveries.
    pub file: PathBuf,
    /// Secrets that rules name and that have no value, and why.
    pub missing: BTreeMap<String, String>,
    /// Is told of every delivery that failed.
    pub warn: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Takes durable events and hands them on; never waits.
pub struct Notifier {
    teller: Teller,
    counters: Vec<Counter>,
    deliveries: Arc<Deliveries>,
}

/// Writes down why something is not even tried.
type Refuse = dyn Fn(&Occasion, &str) + Send;

/// Where occasions for one rule are handed in.
struct Counter {
    rule: NotifyRule,
    digest: Digest,
    queue: SyncSender<Occasion>,
    refuse: Box<Refuse>,
}

/// Deliveries under way.
pub struct Outstanding {
    ended: Vec<Receiver<()>>,
    given_up: CancellationToken,
}

impl Notifier {
    /// Starts a courier for every rule; `None` when there is nothing to tell anybody. `past` is what an earlier engine
    /// wrote: what it did not deliver is delivered now, except questions that are answered.
    ///
    /// # Errors
    /// Fails when the file of deliveries or a worker cannot be had.
    pub fn start(post: Post, past: &[Event]) -> io::Result<Option<(Self, Outstanding)>> {
        if post.plan.notify.is_empty() || post.plan.mode == Mode::DryRun {
            return Ok(None);
        }
        let deliveries = Arc::new(Deliveries::open(&post.file)?);
        let given_up = CancellationToken::new();
        let missing = Arc::new(post.missing.clone());
        let (mut counters, mut ended) = (Vec::new(), Vec::new());
        for (index, rule) in post.plan.notify.iter().enumerate() {
            let Some(action) = post.registry.get(&rule.uses).cloned() else { continue };
            let make = || Courier {
                number: index + 1,
                rule: rule.clone(),
                digest: digest(rule),
                action: Arc::clone(&action),
                plan: Arc::clone(&post.plan),
                hands: Arc::clone(&post.hands),
                deliveries: Arc::clone(&deliveries),
                warn: Arc::clone(&post.warn),
                missing: Arc::clone(&missing),
                given_up: given_up.clone(),
            };
            let (queue, waiting) = mpsc::sync_channel(WAITING);
            let (end, has_ended) = mpsc::channel();
            let courier = make();
            std::thread::Builder::new().name(format!("notify {}", index + 1)).spawn(move || {
                courier.work(waiting);
                // Nobody waits any more when the other end is gone.
                let _ = end.send(());
            })?;
            let refusing = make();
            let refuse = Box::new(move |occasion: &Occasion, why: &str| refusing.refuse(occasion, why));
            counters.push(Counter { rule: rule.clone(), digest: digest(rule), queue, refuse });
            ended.push(has_ended);
        }
        let mut notifier = Self { teller: Teller::new(Arc::clone(&post.plan)), counters, deliveries };
        notifier.catch_up(past);
        Ok(Some((notifier, Outstanding { ended, given_up })))
    }

    fn catch_up(&mut self, past: &[Event]) {
        let occasions: Vec<Occasion> = past.iter().filter_map(|event| self.teller.take(event)).collect();
        for occasion in occasions {
            let is_answered = occasion.on == NotifyOn::ApprovalNeeded
                && occasion.step.as_ref().is_some_and(|step| !self.teller.is_open(step));
            if !is_answered {
                self.hand_out(&occasion);
            }
        }
    }

    fn hand_out(&self, occasion: &Occasion) {
        for counter in self.counters.iter().filter(|counter| counter.rule.on.contains(&occasion.on)) {
            if self.deliveries.was_delivered(&counter.digest, occasion.seq) {
                continue;
            }
            match counter.queue.try_send(occasion.clone()) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => (counter.refuse)(occasion, "too many deliveries wait already"),
                Err(TrySendError::Disconnected(_)) => (counter.refuse)(occasion, "its worker has ended"),
            }
        }
    }
}

fn digest(rule: &NotifyRule) -> Digest {
    Digest::of(&serde_json::to_vec(rule).unwrap_or_default())
}

impl Sink for Notifier {
    fn event(&mut self, event: &Event) -> Result<(), SinkError> {
        if let Some(occasion) = self.teller.take(event) {
            self.hand_out(&occasion);
        }
        Ok(())
    }

    fn progress(&mut self, _: &ProgressUpdate) {}
}

impl Outstanding {
    /// Waits until everything is delivered or given up, at most this long; what is left then is ended and written down
    /// as failed. Call it when the sink is gone.
    pub fn finish(self, at_most: Duration) {
        let begin = monotonic();
        let mut late = Vec::new();
        for ended in self.ended {
            let left = at_most.saturating_sub(begin.elapsed());
            if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(left) {
                late.push(ended);
            }
        }
        self.given_up.cancel();
        let begin = monotonic();
        for ended in late {
            // One that does not even end now is left to the end of the process.
            let _ = ended.recv_timeout(GRACE.saturating_sub(begin.elapsed()));
        }
    }
}
