//! One setting of a bucket: read, compared with what was wished, written, read back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{
    Access, ActionError, Bucket, CheckContext, EffectClass, Effects, Findings, PlanContext, ReadBucket, ReadStore,
    RunContext, StoreRef, Target,
};
pub(super) use crate::actions::store::store_failed as refused;

/// What is done with the difference between what a bucket has and what was wished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingMode {
    /// It is told; nothing is changed.
    #[default]
    Plan,
    /// The bucket is changed, and read again.
    Apply,
    /// Any difference fails the step; nothing is changed.
    Verify,
}

/// One difference between what a bucket has and what was wished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// What differs.
    pub setting: String,
    /// What the bucket has; absent when it has nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
    /// What was wished; absent when it is to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wished: Option<String>,
}

impl Difference {
    /// A difference where both sides have something.
    pub(super) fn new(setting: impl Into<String>, is: impl Into<String>, wished: impl Into<String>) -> Self {
        Self { setting: setting.into(), is: Some(is.into()), wished: Some(wished.into()) }
    }

    /// The difference on one line.
    pub(super) fn told(&self) -> String {
        match (&self.is, &self.wished) {
            (Some(is), Some(wished)) => format!("{}: is {is}; wished: {wished}", self.setting),
            (None, Some(wished)) => format!("{}: missing; wished: {wished}", self.setting),
            (Some(is), None) => format!("{}: {is}; to be removed", self.setting),
            (None, None) => self.setting.clone(),
        }
    }
}

/// The outputs of the actions that set something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingOutput {
    /// Whether the bucket was changed.
    pub changed: bool,
    /// What differed when the step began.
    pub differences: Vec<Difference>,
    /// What others set, and what was left as it is.
    pub kept: Vec<String>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
}

/// A fact with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) fact: String,
    pub(super) help: String,
}

impl Advice {
    pub(super) fn new(fact: impl Into<String>, help: impl Into<String>) -> Self {
        Self { fact: fact.into(), help: help.into() }
    }
}

/// What comparing came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Comparison {
    /// What must change.
    pub(super) differences: Vec<Difference>,
    /// Why it may not be set.
    pub(super) refusals: Vec<Advice>,
    /// What is worth knowing.
    pub(super) warnings: Vec<Advice>,
    /// What others set.
    pub(super) kept: Vec<String>,
}

/// One setting of a bucket with what was wished.
pub(super) trait Setting: Sync {
    /// What the bucket has, as far as it matters here.
    type State: Send + Sync;

    /// Reads what the bucket has.
    fn read(
        &self,
        store: &dyn ReadStore,
        bucket: &dyn ReadBucket,
    ) -> impl Future<Output = Result<Self::State, ActionError>> + Send;
    /// Compares it with what was wished. Pure.
    fn compare(&self, state: &Self::State) -> Comparison;
    /// Writes what was wished.
    fn write(&self, bucket: &dyn Bucket, state: &Self::State) -> impl Future<Output = Result<(), ActionError>> + Send;
}

/// The store and what is done with the difference: what every setting has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) store: &'a StoreRef,
    pub(super) mode: SettingMode,
}

impl Subject<'_> {
    /// What a step of this mode touches. One that changes a bucket keeps away from its databases while a recovery
    /// replaces one of them.
    pub(super) fn effects(self, cx: &PlanContext<'_>) -> Effects {
        let target = Target::Store { name: self.store.0.clone(), prefix: String::new() };
        match self.mode {
            SettingMode::Plan | SettingMode::Verify => Effects::of(EffectClass::Read).target(Access::Read, target),
            SettingMode::Apply => {
                let uses = |database: &&crate::language::inventory::Database| {
                    database.archives().any(|name| name == self.store.as_str())
                };
                let databases = cx.inventory.databases.iter().filter(|(_, database)| uses(database));
                let effects = Effects::of(EffectClass::Write).target(Access::Write, target);
                databases.fold(effects, |effects, (name, _)| effects.hold(name))
            }
        }
    }

    /// Shows the difference; changes nothing.
    pub(super) async fn examine<S: Setting>(self, setting: &S, cx: &CheckContext) -> Result<Findings, ActionError> {
        let store = cx.store(self.store.as_str())?;
        let bucket = store.read_bucket().ok_or_else(|| no_bucket(self.store))?;
        let compared = match setting.read(&*store, bucket).await {
            Ok(state) => setting.compare(&state),
            Err(error) if cx.ahead => return Ok(Findings::default().pending(error.to_string())),
            Err(error) => return Err(error),
        };
        let mut findings = Findings::default();
        for advice in compared.refusals {
            findings = findings.refuse(advice.fact, advice.help);
        }
        for advice in compared.warnings {
            findings = findings.warn(advice.fact, advice.help);
        }
        for difference in &compared.differences {
            findings = match self.mode {
                SettingMode::Plan | SettingMode::Apply => findings.pass(difference.told()),
                SettingMode::Verify => findings.warn(difference.told(), "`mode: apply` sets it"),
            };
        }
        if compared.differences.is_empty() {
            findings = findings.pass(format!("`{}` is as wished", bucket.bucket()));
        }
        Ok(findings)
    }

    /// Does what the mode says.
    pub(super) async fn settle<S: Setting>(self, setting: &S, cx: &RunContext) -> Result<SettingOutput, ActionError> {
        let store = cx.store(self.store.as_str())?;
        let bucket = store.as_read().read_bucket().ok_or_else(|| no_bucket(self.store))?;
        let state = setting.read(store.as_read(), bucket).await?;
        let compared = setting.compare(&state);
        if let Some(first) = compared.refusals.first() {
            let facts = compared.refusals.iter().map(|advice| advice.fact.clone()).collect::<Vec<_>>().join("; ");
            return Err(ActionError::fatal(facts).help(first.help.clone()));
        }
        for difference in &compared.differences {
            cx.reporter.note(difference.told(), serde_json::to_value(difference).unwrap_or_default());
        }
        let changed = match (self.mode, compared.differences.is_empty()) {
            (SettingMode::Plan, _) | (SettingMode::Verify | SettingMode::Apply, true) => false,
            (SettingMode::Verify, false) => return Err(drifted(bucket, &compared)),
            (SettingMode::Apply, false) => {
                let writable = store.bucket().ok_or_else(|| no_bucket(self.store))?;
                setting.write(writable, &state).await?;
                let after = setting.compare(&setting.read(store.as_read(), bucket).await?);
                if let Some(left) = after.differences.first() {
                    let fact = format!("the server took the change and does not have it: {}", left.told());
                    return Err(ActionError::fatal(fact).help("it may not support this setting; see its manual"));
                }
                true
            }
        };
        let warnings = compared.warnings.into_iter().map(|advice| advice.fact).collect();
        Ok(SettingOutput { changed, differences: compared.differences, kept: compared.kept, warnings })
    }
}

fn drifted(bucket: &dyn ReadBucket, compared: &Comparison) -> ActionError {
    let told = compared.differences.iter().map(Difference::told).collect::<Vec<_>>().join("; ");
    ActionError::fatal(format!("`{}` is not as wished: {told}", bucket.bucket()))
        .help("find out who changed it, then set it again with `mode: apply`")
}

/// The store is no bucket, or it is one that cannot be asked.
pub(super) fn no_bucket(store: &StoreRef) -> ActionError {
    ActionError::fatal(format!("the store `{}` does not lie in a bucket with settings", store.as_str()))
        .help("these actions are for stores with an URL of the form `s3://bucket/prefix`")
}

/// The name of the bucket that a store lies in, for a person at a shell.
pub(super) fn bucket_name(inventory: &crate::language::inventory::Inventory, store: &StoreRef) -> Option<String> {
    let rest = inventory.stores.get(store.as_str())?.url.strip_prefix("s3://")?;
    Some(rest.split('/').next().unwrap_or(rest).to_owned())
}
