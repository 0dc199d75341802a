//! One attempt, from its handles to its result: timeout, cancel, grace.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::capability::{Binding, Leash};
use super::{Capabilities, reveal};
use crate::action::{ActionError, BoxFuture, ErasedAction, Interrupted};
use crate::base::secret::TOKEN_OPEN;
use crate::base::units::Span;
use crate::event::{ErrorClass, ErrorInfo};
use crate::port::Clock;

/// How long an attempt that is told to end may take: the grace of its processes, and a little for the rest.
const GRACE: Duration = Duration::from_secs(12);
/// How long it may take once everything of it is killed.
const KILL_GRACE: Duration = Duration::from_secs(3);

/// Everything one attempt needs, owned.
pub(super) struct AttemptJob {
    pub(super) action: Arc<dyn ErasedAction>,
    pub(super) with: Value,
    pub(super) hands: Arc<dyn Capabilities>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) binding: Binding,
    /// What is left of its timeout.
    pub(super) limit: Option<Duration>,
    /// The attempt that an earlier engine began, when this one waits for it.
    pub(super) cut: Option<Interrupted>,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) struct AttemptEnd {
    pub(super) result: Result<Value, ActionError>,
    pub(super) elapsed: Duration,
    pub(super) how: HowEnded,
}

/// Whether an attempt came to its end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HowEnded {
    /// It returned.
    Returned,
    /// It was told to end, did not, and was dropped.
    Dropped,
}

/// Why an attempt was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Timeout(Duration),
    Cancel,
}

impl AttemptJob {
    pub(super) async fn make(self) -> AttemptEnd {
        let began = self.clock.monotonic();
        let clock = Arc::clone(&self.clock);
        let (result, how) = self.attempt().await;
        AttemptEnd { result, elapsed: clock.monotonic().saturating_duration_since(began), how }
    }

    async fn attempt(self) -> (Result<Value, ActionError>, HowEnded) {
        let leash = self.binding.leash.clone();
        let prepared = revealed(&self.with, &self.action, &*self.hands)
            .and_then(|with| Ok((with, self.hands.bind(self.binding)?)));
        let (with, cx) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return (Err(error), HowEnded::Returned),
        };
        let running = match &self.cut {
            Some(cut) => self.action.reattach(&with, cut, &cx),
            None => self.action.run(&with, &cx),
        };
        bounded(running, &leash, &*self.clock, self.limit).await
    }
}

/// Waits for what runs, tells it to end when its time is up or a cancel comes, and gives it up after a grace.
pub(super) async fn bounded(
    mut running: BoxFuture<'_, Result<Value, ActionError>>,
    leash: &Leash,
    clock: &dyn Clock,
    limit: Option<Duration>,
) -> (Result<Value, ActionError>, HowEnded) {
    let told = tokio::select! {
        biased;
        result = &mut running => return (result, HowEnded::Returned),
        limit = expired(clock, limit) => Told::Timeout(limit),
        () = leash.cancel.cancelled() => Told::Cancel,
    };
    leash.cancel.cancel();
    let (result, how) = tokio::select! {
        biased;
        result = running => (result, HowEnded::Returned),
        () = grace(leash, clock) => (Err(dropped(told)), HowEnded::Dropped),
    };
    (result.map_err(|error| ended_late(told, error)), how)
}

async fn expired(clock: &dyn Clock, limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            clock.sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

async fn grace(leash: &Leash, clock: &dyn Clock) {
    let killed = async {
        leash.kill.cancelled().await;
        clock.sleep(KILL_GRACE).await;
    };
    tokio::select! {
        () = clock.sleep(GRACE) => {}
        () = killed => {}
    }
}

fn dropped(told: Told) -> ActionError {
    match told {
        Told::Timeout(_) => ActionError::unknown("the attempt did not end when it was told to after its timeout"),
        Told::Cancel => ActionError::cancelled("the attempt did not end when it was told to and was given up"),
    }
}

/// An attempt that ended because of its timeout says so, unless it does not know what it did.
fn ended_late(told: Told, error: ActionError) -> ActionError {
    match told {
        Told::Timeout(limit) if error.info().class != ErrorClass::Unknown => {
            let info = error.into_info();
            let message = format!("ran longer than `{}` and was ended", Span(limit));
            // That it was told to end is what the new message says.
            let known = (info.class != ErrorClass::Cancelled).then_some(info.message);
            let causes = known.into_iter().chain(info.causes).collect();
            ErrorInfo { class: ErrorClass::Timeout, message, causes, ..info }.into()
        }
        Told::Timeout(_) | Told::Cancel => error,
    }
}

/// Puts secrets into rendered arguments, where there are any.
pub(super) fn revealed(
    with: &Value,
    action: &Arc<dyn ErasedAction>,
    hands: &dyn Capabilities,
) -> Result<Value, ActionError> {
    if has_token(with) { reveal::reveal(with, &action.params_schema(), hands) } else { Ok(with.clone()) }
}

fn has_token(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(TOKEN_OPEN),
        Value::Array(items) => items.iter().any(has_token),
        Value::Object(members) => members.values().any(has_token),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
