//! `store.retrieve`: makes archived objects readable.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::by_hand::location;
use super::crew::each;
use super::store_failed;
use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, Availability, CheckContext, EffectClass, Effects, Example, Findings,
    Idempotency, ObjectFacts, ObjectKey, ParamFault, PlanContext, RunContext, StorageClass, Store, StoreRef, Target,
};
use crate::base::clock::monotonic;
use crate::base::units::{Span, human_duration};
use crate::event::Progress;
use crate::language::inventory::{RetrievalPolicy, RetrievalSpeed};

const WITHIN: Duration = Duration::from_secs(48 * 3600);
const EVERY: Duration = Duration::from_secs(60);
const PARALLEL: usize = 8;
/// How many days readable copies stay, where nothing says otherwise.
const DAYS: u32 = 7;

/// Retrieves archived objects.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retrieve;

/// The arguments of `store.retrieve`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetrieveParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// What the keys begin with.
    pub prefix: String,
    /// How fast. Default: as the store's `retrieval` says, else `standard`.
    #[serde(default)]
    pub speed: Option<RetrievalSpeed>,
    /// How many days the readable copies stay. Default: as the store's `retrieval` says, else 7.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub days: Option<u32>,
    /// Waits until all can be read. Default yes.
    #[serde(default = "yes")]
    pub wait: bool,
    /// How long it waits at most. Default `2d`.
    #[serde(default)]
    pub within: Option<Span>,
    /// How often it asks. Default `1m`.
    #[serde(default)]
    pub every: Option<Span>,
}

fn yes() -> bool {
    true
}

/// The outputs of `store.retrieve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retrieved {
    /// How many objects there are.
    pub count: u64,
    /// How many of them were asked for now.
    pub asked: u64,
    /// How many can be read now.
    pub ready: u64,
}

impl RetrieveParams {
    fn policy(&self, known: Option<&RetrievalPolicy>) -> (RetrievalSpeed, u32) {
        let speed = self.speed.or(known.map(|policy| policy.tier)).unwrap_or_default();
        (speed, self.days.or(known.map(|policy| policy.days)).unwrap_or(DAYS))
    }
}

impl Action for Retrieve {
    const SPEC: ActionSpec = ActionSpec {
        name: "store.retrieve",
        summary: "Asks for readable copies of archived objects and waits until they can be read.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example { title: "A backup from the archive", with: "{ store: primary, prefix: orders/base/2026/ }" },
            Example {
                title: "Ask now, wait in a later step",
                with: "{ store: primary, prefix: orders/base/2026/, speed: bulk, days: 3, wait: false }",
            },
        ],
    };
    type Params = RetrieveParams;
    type Output = Retrieved;

    fn effects(&self, params: &RetrieveParams, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        if params.days == Some(0) {
            return Err(vec![ParamFault::new("/days", "a copy stays for at least one day")]);
        }
        let target = Target::Store { name: params.store.0.clone(), prefix: params.prefix.clone() };
        // Nothing of the objects changes: a readable copy is made beside them, and paid for.
        Ok(Effects::of(EffectClass::Write).target(Access::Read, target))
    }

    fn by_hand(&self, params: &RetrieveParams, cx: &PlanContext<'_>) -> Vec<String> {
        let from = location(cx.inventory, params.store.as_str(), &params.prefix);
        vec![remark(&format!("restore what begins with {from} from its archive with the store's own tool"))]
    }

    async fn check(&self, params: &RetrieveParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let store = cx.store(params.store.as_str())?;
        let found = match store.list(&params.prefix).await {
            Ok(found) => found,
            Err(error) if cx.ahead => return Ok(Findings::default().pending(error.to_string())),
            Err(error) => return Err(store_failed(error)),
        };
        let archived = found.iter().filter(|facts| facts.availability != Availability::Ready).count();
        let findings = Findings::default();
        Ok(match found.len() {
            0 if cx.ahead => findings.pending("there is no such object yet"),
            0 => findings.refuse(format!("no object begins with `{}`", params.prefix), "give another prefix"),
            count => {
                let entry = cx.about.inventory.stores.get(params.store.as_str());
                let (speed, _) = params.policy(entry.and_then(|entry| entry.retrieval.as_ref()));
                let wait = |facts: &ObjectFacts| StorageClass::named(facts.storage_class.as_deref()?)?.retrieval(speed);
                let wait = found.iter().filter_map(wait).max().filter(|_| params.wait && archived > 0);
                let takes =
                    wait.map_or_else(String::new, |wait| format!("; a retrieval takes up to {}", human_duration(wait)));
                findings.pass(format!("{archived} of {count} objects lie in an archived class{takes}")).waiting(wait)
            }
        })
    }

    async fn run(&self, params: &RetrieveParams, cx: &RunContext) -> Result<Retrieved, ActionError> {
        let store = cx.store(params.store.as_str())?;
        let entry = cx.about.inventory.stores.get(params.store.as_str());
        let policy = params.policy(entry.and_then(|entry| entry.retrieval.as_ref()));
        let found = store.list(&params.prefix).await.map_err(store_failed)?;
        if found.is_empty() {
            return Err(ActionError::fatal(format!("no object begins with `{}`", params.prefix)));
        }
        let keys: Vec<ObjectKey> = found.into_iter().map(|facts| facts.key).collect();
        let how = Retrieval {
            policy,
            wait: if params.wait { Wait::UntilReady } else { Wait::Never },
            within: params.within.map_or(WITHIN, |within| within.0),
            every: params.every.map_or(EVERY, |every| every.0),
        };
        how.bring(&*store, &keys, cx).await
    }
}

/// How archived objects are made readable.
#[derive(Debug, Clone, Copy)]
pub(in crate::actions) struct Retrieval {
    /// How fast, and for how many days.
    pub(in crate::actions) policy: (RetrievalSpeed, u32),
    /// Whether it is waited for.
    pub(in crate::actions) wait: Wait,
    /// For how long at most.
    pub(in crate::actions) within: Duration,
    /// How often the store is asked.
    pub(in crate::actions) every: Duration,
}

/// Whether somebody waits until objects can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::actions) enum Wait {
    /// They are only asked for.
    Never,
    /// Until each can be read.
    UntilReady,
}

impl Retrieval {
    /// As a store's `retrieval` says, waited for.
    pub(in crate::actions) fn of(known: Option<&RetrievalPolicy>) -> Self {
        let policy = (known.map(|policy| policy.tier).unwrap_or_default(), known.map_or(DAYS, |policy| policy.days));
        Self { policy, wait: Wait::UntilReady, within: WITHIN, every: EVERY }
    }

    /// Asks for the objects that are archived and nobody has asked for.
    ///
    /// # Errors
    /// Fails when the store does or knows no retrieval, with a passing failure when it takes longer than was said, and on a
    /// cancel: what was asked for stays asked for.
    pub(in crate::actions) async fn bring(
        &self,
        store: &dyn Store,
        keys: &[ObjectKey],
        cx: &RunContext,
    ) -> Result<Retrieved, ActionError> {
        let (mut waiting, asked) = ask(store, keys, self.policy).await?;
        let count = keys.len() as u64;
        let from = monotonic();
        while self.wait == Wait::UntilReady && !waiting.is_empty() {
            let done = count - waiting.len() as u64;
            cx.reporter.progress(Progress::Units { done, total: Some(count), unit: "objects" });
            if from.elapsed() >= self.within {
                let fact = format!(
                    "{} of {count} objects cannot be read after {}, among them `{}`",
                    waiting.len(),
                    human_duration(self.within),
                    waiting[0]
                );
                return Err(ActionError::retryable(fact).help("they are asked for; run the step again later"));
            }
            tokio::select! {
                () = tokio::time::sleep(self.every.min(self.within)) => {}
                () = cx.cancel.cancelled() => return Err(ActionError::cancelled("the objects stay asked for")),
            }
            waiting = still_archived(store, &waiting).await?.into_iter().map(|(key, _)| key).collect();
        }
        Ok(Retrieved { count, asked, ready: count - waiting.len() as u64 })
    }
}

/// Asks for what nobody has asked for. Gives what cannot be read yet, and how many were asked for now.
async fn ask(
    store: &dyn Store,
    keys: &[ObjectKey],
    (speed, days): (RetrievalSpeed, u32),
) -> Result<(Vec<ObjectKey>, u64), ActionError> {
    let archived = still_archived(store, keys).await?;
    if archived.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let retrieval = store
        .retrieval()
        .ok_or_else(|| ActionError::fatal(format!("store `{}` cannot retrieve archived objects", store.name())))?;
    let new: Vec<&ObjectKey> =
        archived.iter().filter(|(_, now)| *now == Availability::Archived).map(|(key, _)| key).collect();
    let asked = each(PARALLEL, new, |key| retrieval.retrieve(key, speed, days)).await;
    let count = asked.len() as u64;
    asked.into_iter().collect::<Result<Vec<()>, _>>().map_err(store_failed)?;
    Ok((archived.into_iter().map(|(key, _)| key).collect(), count))
}

/// Which of the objects cannot be read now, and why.
async fn still_archived(store: &dyn Store, keys: &[ObjectKey]) -> Result<Vec<(ObjectKey, Availability)>, ActionError> {
    let told = each(PARALLEL, keys, |key| store.head(key)).await;
    let mut archived = Vec::new();
    for facts in told {
        let facts = facts.map_err(store_failed)?;
        match facts.availability {
            Availability::Ready | Availability::ReadyUntil(_) => {}
            Availability::Archived | Availability::Retrieving => archived.push((facts.key, facts.availability)),
        }
    }
    archived.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(archived)
}
