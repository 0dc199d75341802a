//! `s3.object_lock`: how long whatever is put stays locked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::setting::{Advice, Comparison, Difference, Setting, SettingMode, SettingOutput, Subject, refused};
use crate::action::{
    Action, ActionError, ActionSpec, Bucket, CheckContext, DefaultLock, EffectClass, Effects, Example, Findings,
    Idempotency, LockDefault, ParamFault, PlanContext, ReadBucket, ReadStore, RunContext, StoreRef,
};
use crate::base::units::Span;
use crate::language::inventory::LockMode;

/// Sets the default lock of a bucket.
#[derive(Debug, Clone, Copy, Default)]
pub struct ObjectLock;

/// The arguments of `s3.object_lock`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectLockParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// What is done with the difference.
    #[serde(default)]
    pub mode: SettingMode,
    /// Who may lift a lock before its time: `governance` (those with a special permission) or `compliance` (nobody).
    pub lock: LockMode,
    /// How long: whole days, for example `30d`.
    #[schemars(with = "String")]
    pub keep: Span,
}

struct Wished(LockDefault);

fn told(lock: &LockDefault) -> String {
    let mode = match lock.mode {
        LockMode::Governance => "governance",
        LockMode::Compliance => "compliance",
    };
    format!("{mode} for {} days", lock.days)
}

impl Setting for Wished {
    type State = DefaultLock;

    async fn read(&self, _: &dyn ReadStore, bucket: &dyn ReadBucket) -> Result<DefaultLock, ActionError> {
        bucket.object_lock().await.map_err(refused)
    }

    fn compare(&self, state: &DefaultLock) -> Comparison {
        let mut compared = Comparison::default();
        let is = match state {
            DefaultLock::Locks(is) if *is == self.0 => return compared,
            DefaultLock::Locks(is) => Some(told(is)),
            DefaultLock::WithoutDefault => None,
            DefaultLock::Off => {
                compared.warnings.push(Advice::new(
                    "the bucket was made without Object Lock",
                    "many servers can only lock buckets that were made so: then make a new one and copy; Amazon S3 can \
                     turn it on for a bucket with versions",
                ));
                None
            }
        };
        compared.differences.push(Difference { setting: "default lock".to_owned(), is, wished: Some(told(&self.0)) });
        if self.0.mode == LockMode::Compliance {
            compared.warnings.push(Advice::new(
                format!(
                    "nobody can delete what is put from then on for {} days, not even the account's owner",
                    self.0.days
                ),
                "try `governance` first",
            ));
        }
        compared
    }

    async fn write(&self, bucket: &dyn Bucket, _: &DefaultLock) -> Result<(), ActionError> {
        bucket.put_object_lock(self.0).await.map_err(|error| {
            refused(error).help("a bucket that was made without Object Lock often cannot get it later: make a new one")
        })
    }
}

impl ObjectLockParams {
    fn wished(&self) -> Wished {
        Wished(LockDefault { mode: self.lock, days: super::lifecycle::days(self.keep).unwrap_or_default() })
    }
}

impl Action for ObjectLock {
    const SPEC: ActionSpec = ActionSpec {
        name: "s3.object_lock",
        summary: "Sets how long a bucket locks whatever is put, so that nobody can delete it before its time.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example {
            title: "Thirty days that an administrator can lift",
            with: "{ store: primary, mode: apply, lock: governance, keep: 30d }",
        }],
    };
    type Params = ObjectLockParams;
    type Output = SettingOutput;

    fn effects(&self, params: &ObjectLockParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        if super::lifecycle::days(params.keep).is_none_or(|days| days == 0) {
            let fault = ParamFault::new("/keep", format!("`{}` is not a number of whole days", params.keep));
            return Err(vec![fault.help("write it like `30d`")]);
        }
        Ok(Subject { store: &params.store, mode: params.mode }.effects(cx))
    }

    async fn check(&self, params: &ObjectLockParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        Subject { store: &params.store, mode: params.mode }.examine(&params.wished(), cx).await
    }

    async fn run(&self, params: &ObjectLockParams, cx: &RunContext) -> Result<SettingOutput, ActionError> {
        Subject { store: &params.store, mode: params.mode }.settle(&params.wished(), cx).await
    }
}
