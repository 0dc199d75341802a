//! `backup.prune`: removes what no rule keeps, as planned, and nothing else.
//!
//! What is to go is planned anew from the store before the first deletion and held against the plan that a person
//! saw, when there is one. A manifest goes first: half a deleted backup is no backup.

mod bond;
mod carry;
mod order;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use order::{PlannedBackup, PlannedPrune, PlannedWal, is_abandoned, is_given_up};

use self::carry::Carrier;
use self::order::Order;
use super::place::{Place, PlaceSpec};
use super::vouched::vouched;
use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, ReadStore, RunContext, Target,
};
use crate::actions::store::catalog_failed;
use crate::base::units::ByteSize;
use crate::base::{RunId, clock};
use crate::catalog::elsewhere::{self, Further, further};
use crate::catalog::freeze::{self, Freeze};
use crate::catalog::retention::{ClockTrust, Moment, Policy, Refusal, RetentionPlan, WalWhy, plan};
use crate::catalog::survey::{Holdings, holdings};
use crate::language::inventory::Inventory;

/// Removes what no rule keeps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prune;

/// The arguments of `backup.prune`. What is pruned is a `database`'s place, or a `source` in a `store`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneParams {
    /// Where the backups lie.
    #[serde(flatten)]
    pub place: PlaceSpec,
    /// The plan that was shown: only what it names goes. Default: what is planned when the step starts.
    #[serde(default)]
    pub plan: Option<PlannedPrune>,
    /// Removes folders without a manifest too, when nothing in them was written for 7 days, and what a writer that was killed
    /// had begun then. Default false.
    #[serde(default)]
    pub orphans: bool,
    /// Prunes though a recovery of the database is open, for this reason; it is kept with the run.
    #[serde(default)]
    pub despite_recovery: Option<String>,
    /// Prunes though a backup or the history of runs is dated in the future, for this reason; it is kept with the run.
    /// This machine's clock must be right. What is dated in the future stays and counts for nothing.
    #[serde(default)]
    pub despite_clock: Option<String>,
}

/// The outputs of `backup.prune`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PruneOutput {
    /// The backups that are gone.
    pub removed: Vec<String>,
    /// What stays though it was planned to go, and WAL of which nothing goes while another store does not tell what it needs,
    /// each with the reason.
    pub spared: Vec<String>,
    /// How many backups are left.
    pub kept: u64,
    /// How many WAL segments are gone.
    pub wal_segments: u64,
    /// How many folders without a manifest are gone.
    pub orphans: u64,
    /// How much that a writer did not finish is gone.
    #[serde(default)]
    pub unfinished: u64,
    /// The stored bytes that are gone.
    pub freed_bytes: u64,
}

impl PruneParams {
    fn place(&self, inventory: &Inventory) -> Result<Place, ActionError> {
        self.place.resolve(inventory).map_err(|fault| ActionError::fatal(fault.message))
    }

    fn trust(&self) -> ClockTrust {
        ClockTrust::by(self.despite_clock.as_ref())
    }
}

/// The databases whose backups lie there: none of them may be recovered meanwhile. A step may have stored a copy in
/// any store, so the prefix alone says whose it is.
fn databases<'a>(place: &'a Place, inventory: &'a Inventory) -> impl Iterator<Item = &'a String> {
    let lies_there = |(name, entry): &(&String, &crate::language::inventory::Database)| {
        entry.prefix.as_ref().unwrap_or(name) == &place.prefix
    };
    inventory.databases.iter().filter(lies_there).map(|(name, _)| name)
}

/// What the store holds, and what of it may go. `open` opens the other stores that this depends on.
async fn judge(
    (store, place): (&dyn ReadStore, &Place),
    (policy, inventory): (&Policy, &Inventory),
    trust: ClockTrust,
    open: impl Fn(&str) -> Result<Arc<dyn ReadStore>, ActionError>,
) -> Result<(Holdings, RetentionPlan), ActionError> {
    let found = holdings(&vouched(store, inventory)?, &place.prefix).await.map_err(catalog_failed)?;
    let now = clock::now();
    let mut survey = found.survey(now);
    if let Some(further) = further(inventory, (&place.store, &place.prefix)) {
        let open = |name: &str| open(name).map_err(|error| error.to_string());
        elsewhere::complete(&mut survey, (&further, &place.prefix), open, now).await;
    }
    let planned = plan(&survey, policy, &Moment::at(now).trusted(trust));
    Ok((found, planned))
}

/// The WAL that stays because the stores with its backups do not tell what they need of it.
fn spared(planned: &RetentionPlan) -> impl Iterator<Item = String> {
    planned.wal.spared.iter().filter_map(|(system_id, why)| match why {
        WalWhy::Elsewhere(why) => Some(format!("WAL of {system_id}: {why}")),
        WalWhy::NoBackup | WalWhy::DamagedManifest | WalWhy::SegmentSizes => None,
    })
}

/// The recovery that is open there, of another run than this one; none when there is a reason to prune all the same.
async fn open(
    params: &PruneParams,
    (store, prefix): (&dyn ReadStore, &str),
    run: &RunId,
) -> Result<Option<Freeze>, ActionError> {
    if params.despite_recovery.is_some() {
        return Ok(None);
    }
    let found = freeze::frozen(store, prefix).await.map_err(catalog_failed)?;
    Ok(found.into_iter().find(|freeze| freeze.note.run != run.to_string()))
}

fn help(freeze: &Freeze) -> String {
    format!("{}, and `--despite-recovery REASON` (in a runbook, `despite_recovery`) prunes all the same", freeze.help())
}

fn unconfigured() -> ActionError {
    ActionError::fatal("the inventory has no `retention`, so nothing is ever pruned")
        .help("say how long backups are kept: `retention: { default: { keep_within: 30d, keep_last: 7 } }`")
}

impl Action for Prune {
    const SPEC: ActionSpec = ActionSpec {
        name: "backup.prune",
        summary: "Removes backups and WAL that no rule of the inventory's `retention` keeps.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example { title: "What no rule keeps of a database's backups", with: "{ database: orders }" },
            Example {
                title: "Of anything else, with what uploads left behind",
                with: "{ source: uploads, store: primary, orphans: true }",
            },
        ],
    };
    type Params = PruneParams;
    type Output = PruneOutput;

    fn effects(&self, params: &PruneParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let place = params.place.resolve(cx.inventory).map_err(|fault| vec![fault])?;
        for (name, reason) in [("despite_recovery", &params.despite_recovery), ("despite_clock", &params.despite_clock)]
        {
            if reason.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
                return Err(vec![ParamFault::new(format!("/{name}"), format!("`{name}` needs a reason"))]);
            }
        }
        let target = Target::Store { name: place.store.clone(), prefix: place.prefix.clone() };
        let effects = Effects::of(EffectClass::Destroy).target(Access::Destroy, target);
        let read = |one: Further| Target::Store { name: one.store, prefix: String::new() };
        let others = further(cx.inventory, (&place.store, &place.prefix)).into_iter().flatten().map(read);
        let effects = others.fold(effects, |effects, other| effects.target(Access::Read, other));
        Ok(databases(&place, cx.inventory).fold(effects, Effects::hold))
    }

    fn by_hand(&self, params: &PruneParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(place) = params.place.resolve(cx.inventory) else { return Vec::new() };
        let text = format!(
            "leave `{}` in store `{}` as it is: what is pruned late costs money, what is pruned wrongly is gone",
            place.prefix, place.store
        );
        vec![remark(&text)]
    }

    async fn check(&self, params: &PruneParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let place = params.place(&cx.about.inventory)?;
        let Some(policy) = Policy::of(&cx.about.inventory) else {
            let info = unconfigured().into_info();
            return Ok(Findings::default().refuse(info.message, info.help.unwrap_or_default()));
        };
        let store = cx.store(&place.store)?;
        if let Some(freeze) = open(params, (&*store, &place.prefix), &cx.about.run).await? {
            return Ok(Findings::default().refuse(freeze.fact(), help(&freeze)));
        }
        let by = (&policy, &*cx.about.inventory);
        let (found, planned) = judge((&*store, &place), by, params.trust(), |name| cx.store(name)).await?;
        if let Some(refusal) = planned.refusals.first() {
            return Ok(Findings::default().refuse(refusal.to_string(), Refusal::HELP));
        }
        if let Some(asked) = &params.plan
            && let Err(difference) = asked.held_against(&planned)
        {
            return Ok(Findings::default().refuse(difference, order::ANEW));
        }
        let order = Order::of(params, &found, &planned, clock::now());
        let mut findings = Findings::default().pass(format!(
            "{} of {} backups would go, {} stay, with {} WAL segments: {}",
            order.backups.len(),
            found.list.backups.len(),
            planned.keep.len(),
            order.wal.len(),
            ByteSize(order.size_bytes()),
        ));
        for damaged in &found.list.damaged {
            let message = format!("the manifest `{}` cannot be used: {}", damaged.key, damaged.why);
            findings = findings.warn(message, "look at it with `runbook backups list`; it is never pruned");
        }
        for stays in spared(&planned) {
            findings = findings.warn(stays, "nothing of that WAL goes meanwhile");
        }
        Ok(findings)
    }

    async fn run(&self, params: &PruneParams, cx: &RunContext) -> Result<PruneOutput, ActionError> {
        let place = params.place(&cx.about.inventory)?;
        let policy = Policy::of(&cx.about.inventory).ok_or_else(unconfigured)?;
        let store = cx.store(&place.store)?;
        if let Some(freeze) = open(params, (store.as_read(), &place.prefix), &cx.about.run).await? {
            return Err(ActionError::fatal(freeze.fact()).help(help(&freeze)));
        }
        let by = (&policy, &*cx.about.inventory);
        let open_other = |name: &str| cx.store(name).map(|store| store as Arc<dyn ReadStore>);
        let (found, planned) = judge((store.as_read(), &place), by, params.trust(), open_other).await?;
        if let Some(refusal) = planned.refusals.first() {
            return Err(ActionError::fatal(refusal.to_string()).help(Refusal::HELP));
        }
        if let Some(asked) = &params.plan {
            asked.held_against(&planned).map_err(|difference| ActionError::fatal(difference).help(order::ANEW))?;
        }
        let order = Order::of(params, &found, &planned, clock::now());
        let mut done = Carrier::new(&*store, cx, &place.prefix, params).carry_out(&order, planned.keep.len()).await?;
        for stays in spared(&planned) {
            cx.reporter.note(stays.clone(), serde_json::json!({ "store": place.store }));
            done.spared.push(stays);
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::{Prune, PruneParams};
    use crate::action::{Action as _, Mode, PlanContext};
    use crate::language::inventory::{Database, Inventory, StoreEntry};

    #[test]
    fn a_copy_in_a_store_that_its_database_does_not_name_holds_the_database_as_well() {
        let entry = |store: &str, prefix: Option<&str>| Database {
            store: Some(store.to_owned()),
            prefix: prefix.map(str::to_owned),
            ..Database::default()
        };
        let stores = ["primary", "offsite"].map(|name| (name.to_owned(), StoreEntry::default()));
        let databases = [
            ("orders".to_owned(), entry("primary", None)),
            ("old".to_owned(), entry("primary", Some("orders"))),
            ("users".to_owned(), entry("offsite", None)),
        ];
        let inventory = Inventory { stores: stores.into(), databases: databases.into(), ..Inventory::default() };
        let params: PruneParams =
            serde_json::from_value(json!({ "source": "orders", "store": "offsite" })).expect("params");
        let context = PlanContext { inventory: &inventory, mode: Mode::Real, scratch: Path::new("/"), host: "local" };
        let effects = Prune.effects(&params, &context).expect("effects");
        assert_eq!(effects.holds, ["old", "orders"]);
    }
}
