//! Puts the rules of `notify` beside a run: their folder, their secrets, their warnings, their end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::capabilities::LocalCapabilities;
use super::exit::told;
use crate::action::{Mode, Registry};
use crate::engine::{Capabilities, Left, Start};
use crate::event::Event;
use crate::journal::RunDir;
use crate::notify::{Notifier, Outstanding, Post};
use crate::plan::{BoundPlan, notify};
use crate::port::Sink;

/// How long deliveries are waited for when the run is over.
const PATIENCE: Duration = Duration::from_secs(15);

/// Adds the sink that tells people; nothing that goes wrong here stops the run.
pub fn start(
    (dir, plan): (&RunDir, &Arc<BoundPlan>),
    (registry, hands): (&Registry, &Arc<LocalCapabilities>),
    past: &[Event],
    sinks: &mut Vec<Box<dyn Sink>>,
) -> Option<Outstanding> {
    if plan.notify.is_empty() || plan.mode == Mode::DryRun {
        return None;
    }
    // Fetched now, so that nobody is asked in the middle of the run and everything is masked from its start.
    let missing = missing(plan, hands);
    for (name, why) in &missing {
        tell!("warning: {why}\n  help: the run goes on, but what needs `{name}` tells nobody");
    }
    let post = Post {
        plan: Arc::clone(plan),
        registry: registry.clone(),
        hands: Arc::new(hands.beside(dir.path().join("notifications"))),
        file: dir.notifications(),
        missing,
        warn: Arc::new(|message| tell!("warning: {message}")),
    };
    match Notifier::start(post, past) {
        Ok(started) => started.map(|(notifier, outstanding)| {
            sinks.push(Box::new(notifier));
            outstanding
        }),
        Err(error) => {
            tell!(
                "warning: nobody is told of this run, because `{}` cannot be used: {error}",
                dir.notifications().display()
            );
            None
        }
    }
}

/// What earlier engines wrote.
pub fn past(start: &Start) -> &[Event] {
    match start {
        Start::Resume(resume) => &resume.events,
        Start::Fresh(_) | Start::Seeded(_) => &[],
    }
}

/// Waits for what is under way; not at all when the operator asked a third time.
pub fn finish(outstanding: Option<Outstanding>, left: Option<Left>) {
    let patience = match left {
        Some(Left::Abandoned) => Duration::ZERO,
        Some(Left::Finished | Left::Suspended) | None => PATIENCE,
    };
    if let Some(outstanding) = outstanding {
        outstanding.finish(patience);
    }
}

/// Fetches the secrets that rules name; gives those that have no value, and why.
pub fn missing(plan: &BoundPlan, hands: &LocalCapabilities) -> BTreeMap<String, String> {
    let names: BTreeSet<String> = plan.notify.iter().flat_map(notify::secrets).collect();
    names.into_iter().filter_map(|name| hands.secret(&name).err().map(|error| (name, told(&error)))).collect()
}
