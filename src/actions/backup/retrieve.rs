//! `backup.retrieve`: makes the objects of an archived backup readable, of those it rests on, too.

use schemars::JsonSchema;
use serde::Deserialize;

use super::get::chosen;
use super::place::PlaceSpec;
use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, EffectClass, Effects, Example, Findings,
    Idempotency, Late, ObjectKey, ParamFault, PlanContext, ReadStore, RunContext, Target,
};
use crate::actions::postgres::stores::readable::Reading;
use crate::actions::store::retrieve::{Retrieval, Retrieved};
use crate::actions::store::{by_hand, catalog_failed};
use crate::base::units::Span;
use crate::catalog::{Backup, lineage};
use crate::language::inventory::{Inventory, RetrievalSpeed};

/// Retrieves a backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retrieve;

/// The arguments of `backup.retrieve`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetrieveParams {
    /// Where the backups lie.
    #[serde(flatten)]
    pub place: PlaceSpec,
    /// The backup, as `backup.find` gave it.
    pub backup: Late<BackupHandle>,
    /// How fast. Default: as the store's `retrieval` says, else `standard`.
    #[serde(default)]
    pub speed: Option<RetrievalSpeed>,
    /// How many days the readable copies stay. Default: as the store's `retrieval` says, else 7.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub days: Option<u32>,
    /// How long it waits at most. Default `2d`.
    #[serde(default)]
    pub within: Option<Span>,
    /// How often it asks. Default `1m`.
    #[serde(default)]
    pub every: Option<Span>,
}

impl RetrieveParams {
    fn retrieval(&self, inventory: &Inventory, store: &str) -> Retrieval {
        let known = Retrieval::of(inventory.stores.get(store).and_then(|entry| entry.retrieval.as_ref()));
        Retrieval {
            policy: (self.speed.unwrap_or(known.policy.0), self.days.unwrap_or(known.policy.1)),
            within: self.within.map_or(known.within, |within| within.0),
            every: self.every.map_or(known.every, |every| every.0),
            ..known
        }
    }
}

impl Action for Retrieve {
    const SPEC: ActionSpec = ActionSpec {
        name: "backup.retrieve",
        summary: "Asks for readable copies of a backup that lies in an archived class, and waits until it can be read.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "Before it is restored",
                with: "{ database: orders, backup: '{{ steps.choose.backup }}' }",
            },
            Example {
                title: "Slowly and cheaply, for a week",
                with: "{ source: media, store: offsite, backup: '{{ steps.choose.backup }}', speed: bulk, days: 7, within: 3d }",
            },
        ],
    };
    type Params = RetrieveParams;
    type Output = Retrieved;

    fn effects(&self, params: &RetrieveParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        if params.days == Some(0) {
            return Err(vec![ParamFault::new("/days", "a copy stays for at least one day")]);
        }
        let place = params.place.resolve(cx.inventory).map_err(|fault| vec![fault])?;
        // What was chosen may lie in any store of the database. Nothing of the objects changes: a readable copy is made
        // beside them, and paid for.
        let elsewhere = place.backup_destinations(cx.inventory).filter(|_| params.place.store.is_none());
        let names: Vec<String> = std::iter::once(place.store.as_str()).chain(elsewhere).map(str::to_owned).collect();
        let from = |name: String| Target::Store { name, prefix: place.prefix.clone() };
        let effects = Effects::of(EffectClass::Write);
        Ok(names.into_iter().fold(effects, |effects, name| effects.target(Access::Read, from(name))))
    }

    fn by_hand(&self, params: &RetrieveParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(place) = params.place.resolve(cx.inventory) else { return Vec::new() };
        let from = by_hand::location(cx.inventory, &place.store, &format!("{}/", place.prefix));
        vec![remark(&format!(
            "restore the folder of the backup below {from} from its archive with the store's own tool"
        ))]
    }

    async fn check(&self, params: &RetrieveParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let findings = Findings::default();
        let handle = match &params.backup {
            Late::Pending(expression) => return Ok(findings.pending(format!("`{expression}` is not known yet"))),
            Late::Known(handle) => handle,
        };
        let place = params.place.resolve(&cx.about.inventory).map_err(|fault| ActionError::fatal(fault.message))?;
        let place = place.of_chosen(Some(handle), params.place.store.as_ref(), &cx.about.inventory);
        let store = cx.store(&place.store)?;
        let backup = chosen(&*store, &place, Some(handle)).await?;
        let mut findings = findings;
        for link in lineage(&*store, &backup).await.map_err(catalog_failed)? {
            let reading = Reading { store: &*store, backup: &link, about: &cx.about };
            findings = match reading.archived().await? {
                Some(archived) => findings.pass(archived.fact).waiting(archived.wait),
                None => findings.pass(format!("backup `{}` can be read now", link.manifest.id)),
            };
        }
        Ok(findings)
    }

    async fn run(&self, params: &RetrieveParams, cx: &RunContext) -> Result<Retrieved, ActionError> {
        let inventory = &cx.about.inventory;
        let handle = params.backup.get()?;
        let place = params.place.resolve(inventory).map_err(|fault| ActionError::fatal(fault.message))?;
        let place = place.of_chosen(Some(handle), params.place.store.as_ref(), inventory);
        let store = cx.store(&place.store)?;
        let backup = chosen(store.as_read(), &place, Some(handle)).await?;
        let keys = objects(store.as_read(), &backup).await?;
        params.retrieval(inventory, &place.store).bring(&*store, &keys, cx).await
    }
}

/// The keys of everything that a restore of it reads.
async fn objects(store: &dyn ReadStore, backup: &Backup) -> Result<Vec<ObjectKey>, ActionError> {
    let mut keys = Vec::new();
    for link in lineage(store, backup).await.map_err(catalog_failed)? {
        for object in &link.manifest.objects {
            keys.push(link.manifest.key_of(&link.prefix, object).map_err(catalog_failed)?);
        }
    }
    Ok(keys)
}
