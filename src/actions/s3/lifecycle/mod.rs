//! `s3.lifecycle`: rules by which the provider moves and removes objects, held behind what retention keeps.

mod compare;
mod compile;
mod kept;
mod promise;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::setting::{Advice, Comparison, Setting, SettingMode, SettingOutput, Subject, refused};
use crate::action::{
    Action, ActionError, ActionSpec, Bucket, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    Lifecycle as State, ParamFault, PlanContext, ReadBucket, ReadStore, RunContext, StorageClass, StoreRef, Versioning,
};
use crate::actions::store::catalog_failed;
use crate::base::units::Span;
use crate::catalog::freeze::Freeze;
use crate::language::inventory::Inventory;
use compile::{Ground, compile};
use kept::Kept;

/// Sets the lifecycle rules of a bucket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lifecycle;

/// The arguments of `s3.lifecycle`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LifecycleParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// What is done with the difference.
    #[serde(default)]
    pub mode: SettingMode,
    /// Rules for the objects below a prefix of the store. Prefixes may not lie inside each other.
    #[serde(default)]
    pub prefixes: Vec<PrefixRule>,
    /// When old versions go, whole days: the time in which a deletion can be undone. Default `30d`.
    #[serde(default = "a_month")]
    #[schemars(with = "String")]
    pub noncurrent_expire_after: Span,
    /// When the parts of an upload that never ended go, whole days. Default `7d`.
    #[serde(default = "a_week")]
    #[schemars(with = "String")]
    pub abort_uploads_after: Span,
    /// How long a restore may take: a class that has to be retrieved first and takes longer is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub rto: Option<Span>,
}

/// A rule for the objects below a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefixRule {
    /// What their keys begin with inside the store: `orders/base/`.
    pub prefix: String,
    /// Other storage classes as they age, youngest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<TransitionRule>,
    /// When they go, whole days. Over backups only as a net behind what retention keeps, over WAL never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expire_after: Option<Span>,
}

/// Another storage class from some age on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransitionRule {
    /// From what age, whole days.
    #[schemars(with = "String")]
    pub after: Span,
    /// The class as Amazon S3 names it: `STANDARD_IA`, `GLACIER_IR`, `GLACIER`, `DEEP_ARCHIVE` …
    pub to: String,
}

fn a_month() -> Span {
    Span(std::time::Duration::from_secs(30 * 86_400))
}

fn a_week() -> Span {
    Span(std::time::Duration::from_secs(7 * 86_400))
}

/// Whole days; `None` for anything else.
pub(super) fn days(span: Span) -> Option<u32> {
    let seconds = span.0.as_secs();
    let whole = seconds.is_multiple_of(86_400) && span.0.subsec_nanos() == 0;
    u32::try_from(seconds / 86_400).ok().filter(|_| whole)
}

/// The rules with what they are judged by.
struct Wished<'a> {
    params: &'a LifecycleParams,
    inventory: &'a Inventory,
}

/// What the bucket has, and what lies in it.
struct Found {
    rules: State,
    root: String,
    versioning: Versioning,
    kept: Vec<Kept>,
    frozen: Vec<Freeze>,
}

impl Found {
    fn ground<'a>(&'a self, store: &'a str) -> Ground<'a> {
        Ground { store, root: &self.root, versioning: self.versioning, kept: &self.kept }
    }
}

impl Setting for Wished<'_> {
    type State = Found;

    async fn read(&self, store: &dyn ReadStore, bucket: &dyn ReadBucket) -> Result<Found, ActionError> {
        let (kept, frozen) = kept::read(store, self.inventory).await.map_err(catalog_failed)?;
        Ok(Found {
            rules: bucket.lifecycle().await.map_err(refused)?,
            root: bucket.root().to_owned(),
            versioning: bucket.versioning().await.map_err(refused)?,
            kept,
            frozen,
        })
    }

    fn compare(&self, found: &Found) -> Comparison {
        let ground = found.ground(self.params.store.as_str());
        let mut compared = compare::compare(&found.rules, compile(self.params, ground), ground);
        let is_change = self.params.mode == SettingMode::Apply && !compared.differences.is_empty();
        if let Some(freeze) = found.frozen.first().filter(|_| is_change) {
            compared.refusals.push(Advice::new(freeze.fact(), freeze.help()));
        }
        compared
    }

    async fn write(&self, bucket: &dyn Bucket, found: &Found) -> Result<(), ActionError> {
        let store = self.params.store.as_str();
        let compiled = compile(self.params, found.ground(store));
        bucket.put_lifecycle(compare::merged(&found.rules, &compiled, store)).await.map_err(refused)
    }
}

/// What makes no sense whatever the bucket has.
fn faults(params: &LifecycleParams) -> Vec<ParamFault> {
    let mut faults = Vec::new();
    let mut whole = |path: String, span: Span| {
        if days(span).is_none_or(|days| days == 0) {
            let fault = ParamFault::new(path, format!("`{span}` is not a number of whole days"));
            faults.push(fault.help("the provider counts in days: write it like `30d`"));
        }
    };
    whole("/noncurrent_expire_after".to_owned(), params.noncurrent_expire_after);
    whole("/abort_uploads_after".to_owned(), params.abort_uploads_after);
    for (at, rule) in params.prefixes.iter().enumerate() {
        rule.expire_after.into_iter().for_each(|span| whole(format!("/prefixes/{at}/expire_after"), span));
        for (step, transition) in rule.transitions.iter().enumerate() {
            whole(format!("/prefixes/{at}/transitions/{step}/after"), transition.after);
        }
    }
    for (at, rule) in params.prefixes.iter().enumerate() {
        faults.extend(order_faults(&format!("/prefixes/{at}"), rule));
        let nested =
            |other: &&PrefixRule| other.prefix.starts_with(&rule.prefix) || rule.prefix.starts_with(&other.prefix);
        if let Some(other) = params.prefixes[..at].iter().find(nested) {
            let fact = format!("`{}` and `{}` lie inside each other", other.prefix, rule.prefix);
            let help = "of two rules for one object the earlier expiry wins; give it one rule";
            faults.push(ParamFault::new(format!("/prefixes/{at}/prefix"), fact).help(help));
        }
    }
    faults
}

/// A transition leads deeper, later, and to a class that takes objects so young.
fn order_faults(path: &str, rule: &PrefixRule) -> Vec<ParamFault> {
    let mut faults = Vec::new();
    let mut before: Option<(&StorageClass, Span)> = None;
    for (at, step) in rule.transitions.iter().enumerate() {
        let path = format!("{path}/transitions/{at}");
        let Some(class) = StorageClass::named(&step.to) else {
            let fault = ParamFault::new(format!("{path}/to"), format!("`{}` is not a storage class", step.to));
            faults.push(fault.help(format!("one of {}", StorageClass::names().join(", "))));
            continue;
        };
        if days(step.after).is_some_and(|days| days < class.youngest_days) {
            let fact = format!("objects move to {} at {} days at the earliest", class.name, class.youngest_days);
            faults.push(ParamFault::new(format!("{path}/after"), fact));
        }
        let backwards = |(class_before, after_before): &(&StorageClass, Span)| {
            class.depth <= class_before.depth || step.after <= *after_before
        };
        if let Some((class_before, _)) = before.filter(backwards) {
            let fact = format!("an object cannot move from {} to {} so", class_before.name, class.name);
            faults.push(ParamFault::new(&path, fact).help("later transitions lead to deeper classes"));
        }
        before = Some((class, step.after));
    }
    if let (Some((_, last)), Some(expiry)) = (before, rule.expire_after)
        && expiry <= last
    {
        let fact = format!("objects would go after {expiry}, before they move after {last}");
        faults.push(ParamFault::new(format!("{path}/expire_after"), fact));
    }
    faults
}

impl Action for Lifecycle {
    const SPEC: ActionSpec = ActionSpec {
        name: "s3.lifecycle",
        summary: "Sets the lifecycle rules of a bucket; a rule that would delete what retention keeps is refused, and the rules of others are kept.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example {
                title: "Unfinished uploads and old versions only: right for every bucket",
                with: "{ store: primary, mode: apply }",
            },
            Example {
                title: "Cheaper classes for older backups, within the objective",
                with: "store: primary\nmode: apply\nrto: 4h\nprefixes:\n  - { prefix: orders/base/, transitions: [ { after: 30d, to: STANDARD_IA }, { after: 90d, to: GLACIER_IR } ] }\n  - { prefix: exports/, expire_after: 400d }",
            },
            Example { title: "Fail when somebody changed them", with: "{ store: primary, mode: verify }" },
        ],
    };
    type Params = LifecycleParams;
    type Output = SettingOutput;

    fn effects(&self, params: &LifecycleParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let faults = faults(params);
        if faults.is_empty() {
            Ok(Subject { store: &params.store, mode: params.mode }.effects(cx))
        } else {
            Err(faults)
        }
    }

    async fn check(&self, params: &LifecycleParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let wished = Wished { params, inventory: &cx.about.inventory };
        Subject { store: &params.store, mode: params.mode }.examine(&wished, cx).await
    }

    async fn run(&self, params: &LifecycleParams, cx: &RunContext) -> Result<SettingOutput, ActionError> {
        let wished = Wished { params, inventory: &cx.about.inventory };
        Subject { store: &params.store, mode: params.mode }.settle(&wished, cx).await
    }
}
