//! `store.restore_versions`: makes what a time saw under a prefix current again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::body::until_cancelled;
use super::by_hand::location;
use super::crew::each;
use super::store_failed;
use super::version::{current_at, time, time_fault, versions_of};
use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency, Late,
    ObjectVersion, ParamFault, PlanContext, ReadStore, RunContext, StoreRef, Target,
};

const PARALLEL: usize = 8;
/// Names that the plan shows.
const NAMED: usize = 20;

/// Restores versions.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreVersions;

/// The arguments of `store.restore_versions`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreVersionsParams {
    /// The store of the inventory; it keeps versions.
    pub store: StoreRef,
    /// What the keys begin with.
    pub prefix: String,
    /// The time, with an offset or `Z`.
    pub as_of: Late<String>,
}

/// The outputs of `store.restore_versions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoredVersions {
    /// How many objects got an earlier content back.
    pub restored: u64,
    /// How many are as they were then.
    pub same: u64,
    /// How many exist now and did not then; they stay.
    pub newer: u64,
    /// Bytes that were restored.
    pub size_bytes: u64,
}

/// What is to be done.
struct Plan {
    restore: Vec<ObjectVersion>,
    same: u64,
    newer: Vec<String>,
}

impl Plan {
    fn of(all: Vec<ObjectVersion>, at: crate::base::Timestamp) -> Self {
        let newer_then = |then: &std::collections::BTreeMap<_, ObjectVersion>, version: &ObjectVersion| {
            then.get(&version.key).is_none_or(|seen| seen.size_bytes.is_none())
        };
        let then = current_at(all.clone(), at);
        let newer = all.iter().filter(|version| version.latest && version.size_bytes.is_some());
        let newer = newer.filter(|version| newer_then(&then, version)).map(|version| version.key.to_string()).collect();
        let there = then.into_values().filter(|version| version.size_bytes.is_some());
        let (same, restore): (Vec<_>, Vec<_>) = there.partition(|version| version.latest);
        Self { restore, same: same.len() as u64, newer }
    }

    async fn make(params: &RestoreVersionsParams, store: &dyn ReadStore) -> Result<Self, ActionError> {
        let at = time(params.as_of.get()?).map_err(ActionError::fatal)?;
        let all = versions_of(store)?.list_versions(&params.prefix).await.map_err(store_failed)?;
        if all.is_empty() {
            return Err(ActionError::fatal(format!("nothing was ever stored under `{}`", params.prefix)));
        }
        let plan = Self::of(all, at);
        if plan.restore.is_empty() && plan.same == 0 {
            return Err(ActionError::fatal(format!("nothing was there under `{}` at {at}", params.prefix))
                .help("choose a later time"));
        }
        Ok(plan)
    }

    fn size_bytes(&self) -> u64 {
        self.restore.iter().filter_map(|version| version.size_bytes).sum()
    }

    fn said(&self) -> String {
        format!(
            "{} objects get an earlier content back ({} bytes), {} are as they were, {} newer ones stay",
            self.restore.len(),
            self.size_bytes(),
            self.same,
            self.newer.len()
        )
    }

    fn data(&self) -> serde_json::Value {
        let version = |one: &ObjectVersion| json!({ "key": one.key.as_str(), "version": one.version });
        json!({
            "restore": self.restore.iter().take(NAMED).map(version).collect::<Vec<_>>(),
            "newer": self.newer.iter().take(NAMED).collect::<Vec<_>>(),
        })
    }
}

impl Action for RestoreVersions {
    const SPEC: ActionSpec = ActionSpec {
        name: "store.restore_versions",
        summary: "Makes the versions that a time saw under a prefix current again, as copies; deletes nothing.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example {
            title: "The media as they were before the mistake",
            with: "{ store: primary, prefix: media/, as_of: '2026-01-28T14:30:00Z' }",
        }],
    };
    type Params = RestoreVersionsParams;
    type Output = RestoredVersions;

    fn effects(&self, params: &RestoreVersionsParams, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        if let Some(fault) = time_fault(Some(&params.as_of)) {
            return Err(vec![fault]);
        }
        let target = Target::Store { name: params.store.0.clone(), prefix: params.prefix.clone() };
        Ok(Effects::of(EffectClass::Destroy).target(Access::Destroy, target))
    }

    fn by_hand(&self, params: &RestoreVersionsParams, cx: &PlanContext<'_>) -> Vec<String> {
        let at = params.as_of.shown(Clone::clone);
        let place = location(cx.inventory, params.store.as_str(), &params.prefix);
        vec![remark(&format!("copy each version under {place} that was current at {at} over the newest"))]
    }

    async fn check(&self, params: &RestoreVersionsParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let store = cx.store(params.store.as_str())?;
        if let Late::Pending(expression) = &params.as_of {
            return Ok(Findings::default().pending(format!("`{expression}` is not known yet")));
        }
        let findings = Findings::default();
        match Plan::make(params, &*store).await {
            Ok(plan) => Ok(findings.pass(plan.said())),
            Err(error) if cx.ahead => Ok(findings.pending(error.to_string())),
            Err(error) => Ok(findings.refuse(error.to_string(), "`store.list` shows what is there now")),
        }
    }

    async fn run(&self, params: &RestoreVersionsParams, cx: &RunContext) -> Result<RestoredVersions, ActionError> {
        let store = cx.store(params.store.as_str())?;
        let plan = Plan::make(params, store.as_read()).await?;
        cx.reporter.note(plan.said(), plan.data());
        let versions = store
            .versions()
            .ok_or_else(|| ActionError::fatal(format!("store `{}` keeps no versions", store.name())))?;
        let work = async {
            let restored = each(PARALLEL, &plan.restore, |one| versions.restore_version(&one.key, &one.version)).await;
            restored.into_iter().collect::<Result<Vec<_>, _>>().map_err(store_failed)
        };
        let restored = until_cancelled(cx, work).await?;
        Ok(RestoredVersions {
            restored: restored.len() as u64,
            same: plan.same,
            newer: plan.newer.len() as u64,
            size_bytes: plan.size_bytes(),
        })
    }
}
