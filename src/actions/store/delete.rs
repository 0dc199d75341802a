//! `store.delete`: one object, or one version of it, for good.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::{faults, key};
use super::by_hand::{is_files, location};
use super::store_failed;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency, Late,
    ObjectKey, ParamFault, PlanContext, RunContext, Store, StoreError, StoreRef, Target,
};

/// Deletes one object.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delete;

/// The arguments of `store.delete`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// The key of the object.
    pub key: String,
    /// Only the version with this id, where the store keeps versions; it cannot be brought back.
    #[serde(default)]
    pub version: Option<Late<String>>,
}

/// The outputs of `store.delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeleteOutput {
    /// Its key.
    pub key: String,
    /// Whether it was there.
    pub existed: bool,
}

impl Action for Delete {
    const SPEC: ActionSpec = ActionSpec {
        name: "store.delete",
        summary: "Deletes one object of a store, or one version of it; one that is not there is no error.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "Delete an old dump", with: "{ store: primary, key: dumps/old.dump }" },
            Example {
                title: "Delete one version for good",
                with: "{ store: primary, key: dumps/old.dump, version: 3sL4kqtJlcpXroDTDmJ }",
            },
        ],
    };
    type Params = DeleteParams;
    type Output = DeleteOutput;

    fn effects(&self, params: &DeleteParams, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        faults(&params.key, None)?;
        let target = Target::Store { name: params.store.0.clone(), prefix: params.key.clone() };
        Ok(Effects::of(EffectClass::Destroy).target(Access::Destroy, target))
    }

    fn by_hand(&self, params: &DeleteParams, cx: &PlanContext<'_>) -> Vec<String> {
        let of = location(cx.inventory, params.store.as_str(), &params.key);
        if let Some(version) = &params.version {
            let id = version.shown(Clone::clone);
            return vec![remark(&format!("remove version {id} of {of} with the store's own tool"))];
        }
        if is_files(cx.inventory, params.store.as_str()) {
            return vec![command_line(["rm", "-f", "--", &of])];
        }
        vec![remark(&format!("remove {of} with the store's own tool"))]
    }

    async fn check(&self, params: &DeleteParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let store = cx.store(params.store.as_str())?;
        if params.version.is_some() {
            super::version::versions_of(&*store)?;
            return Ok(Findings::default().pass("the store keeps versions"));
        }
        match store.head(&key(&params.key)?).await {
            Ok(facts) => Ok(Findings::default().pass(format!("`{}` has {} bytes", params.key, facts.size_bytes))),
            Err(error @ StoreError::NotFound { .. }) => Ok(Findings::default().pending(error.to_string())),
            Err(error) if cx.ahead => Ok(Findings::default().pending(error.to_string())),
            Err(error) => Err(store_failed(error)),
        }
    }

    async fn run(&self, params: &DeleteParams, cx: &RunContext) -> Result<DeleteOutput, ActionError> {
        let (store, key) = (cx.store(params.store.as_str())?, key(&params.key)?);
        if let Some(version) = &params.version {
            let existed = delete_version(&*store, &key, version.get()?).await?;
            return Ok(DeleteOutput { key: key.to_string(), existed });
        }
        let existed = match store.head(&key).await {
            Ok(_) => true,
            Err(StoreError::NotFound { .. }) => false,
            Err(error) => return Err(store_failed(error)),
        };
        store.delete(&key).await.map_err(store_failed)?;
        Ok(DeleteOutput { key: key.to_string(), existed })
    }
}

async fn delete_version(store: &dyn Store, key: &ObjectKey, version: &str) -> Result<bool, ActionError> {
    let versions =
        store.versions().ok_or_else(|| ActionError::fatal(format!("store `{}` keeps no versions", store.name())))?;
    let all = versions.list_versions(key.as_str()).await.map_err(store_failed)?;
    let existed = all.iter().any(|found| found.key == *key && found.version == version);
    if existed {
        versions.delete_version(key, version).await.map_err(store_failed)?;
    }
    Ok(existed)
}
