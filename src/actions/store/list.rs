//! `store.list`: the objects under a prefix.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::by_hand::{folder, is_files, location};
use super::store_failed;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, RunContext, StoreRef, Target,
};
use crate::base::Timestamp;

/// Objects that are given out at most; more is an error, not a silent cut.
const LIMIT: usize = 10_000;

/// Lists objects.
#[derive(Debug, Clone, Copy, Default)]
pub struct List;

/// The arguments of `store.list`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// What the keys begin with. Default: everything.
    #[serde(default)]
    pub prefix: String,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it was last written, by the store's clock.
    #[schemars(with = "String")]
    pub modified_at: Timestamp,
}

/// The outputs of `store.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListOutput {
    /// The objects, sorted by key.
    pub objects: Vec<ListedObject>,
    /// How many there are.
    pub count: u64,
    /// Their sizes together.
    pub size_bytes: u64,
}

impl Action for List {
    const SPEC: ActionSpec = ActionSpec {
        name: "store.list",
        summary: "Lists the objects of a store whose keys begin with a prefix.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example { title: "List the dumps", with: "{ store: primary, prefix: dumps/ }" }],
    };
    type Params = ListParams;
    type Output = ListOutput;

    fn effects(&self, params: &ListParams, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let target = Target::Store { name: params.store.0.clone(), prefix: params.prefix.clone() };
        Ok(Effects::of(EffectClass::Read).target(Access::Read, target))
    }

    fn by_hand(&self, params: &ListParams, cx: &PlanContext<'_>) -> Vec<String> {
        let from = location(cx.inventory, params.store.as_str(), &params.prefix);
        if is_files(cx.inventory, params.store.as_str()) {
            return vec![command_line(["ls", "-lR", folder(&from)])];
        }
        vec![remark(&format!("list what begins with {from} with the store's own tool"))]
    }

    async fn check(&self, params: &ListParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let store = cx.store(params.store.as_str())?;
        match store.list(&params.prefix).await {
            Ok(found) => Ok(Findings::default().pass(format!("{} objects", found.len()))),
            Err(error) if cx.ahead => Ok(Findings::default().pending(error.to_string())),
            Err(error) => Err(store_failed(error)),
        }
    }

    async fn run(&self, params: &ListParams, cx: &RunContext) -> Result<ListOutput, ActionError> {
        let found = cx.store(params.store.as_str())?.list(&params.prefix).await.map_err(store_failed)?;
        if found.len() > LIMIT {
            let fact = format!("there are {} objects; at most {LIMIT} are given out", found.len());
            return Err(ActionError::fatal(fact).help("give a longer prefix"));
        }
        let size_bytes = found.iter().map(|facts| facts.size_bytes).sum();
        let object = |facts: crate::action::ObjectFacts| ListedObject {
            key: facts.key.to_string(),
            size_bytes: facts.size_bytes,
            modified_at: facts.modified_at,
        };
        let objects: Vec<ListedObject> = found.into_iter().map(object).collect();
        Ok(ListOutput { count: objects.len() as u64, size_bytes, objects })
    }
}
