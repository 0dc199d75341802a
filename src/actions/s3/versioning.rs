//! `s3.versioning`: what is replaced or deleted stays as an old version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::setting::{Comparison, Difference, Setting, SettingMode, SettingOutput, Subject, refused};
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Action, ActionError, ActionSpec, Bucket, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, ReadBucket, ReadStore, RunContext, StoreRef, Versioning as State,
};

/// Has a bucket keep versions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Versioning;

/// The arguments of `s3.versioning`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VersioningParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// What is done with the difference.
    #[serde(default)]
    pub mode: SettingMode,
}

struct On;

impl Setting for On {
    type State = State;

    async fn read(&self, _: &dyn ReadStore, bucket: &dyn ReadBucket) -> Result<State, ActionError> {
        bucket.versioning().await.map_err(refused)
    }

    fn compare(&self, state: &State) -> Comparison {
        let is = match state {
            State::On => return Comparison::default(),
            State::Off => "off",
            State::Suspended => "suspended",
        };
        Comparison { differences: vec![Difference::new("versioning", is, "on")], ..Comparison::default() }
    }

    async fn write(&self, bucket: &dyn Bucket, _: &State) -> Result<(), ActionError> {
        bucket.put_versioning(State::On).await.map_err(refused)
    }
}

impl Action for Versioning {
    const SPEC: ActionSpec = ActionSpec {
        name: "s3.versioning",
        summary: "Has a bucket keep what is replaced or deleted as an old version; it cannot be turned off again, only suspended.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "Turn it on", with: "{ store: primary, mode: apply }" },
            Example { title: "Fail when somebody suspended it", with: "{ store: primary, mode: verify }" },
        ],
    };
    type Params = VersioningParams;
    type Output = SettingOutput;

    fn effects(&self, params: &VersioningParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        Ok(Subject { store: &params.store, mode: params.mode }.effects(cx))
    }

    fn by_hand(&self, params: &VersioningParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Some(bucket) = super::setting::bucket_name(cx.inventory, &params.store) else {
            return vec![remark("turn versioning on with the server's own tool")];
        };
        let word = ["aws", "s3api"];
        match params.mode {
            SettingMode::Plan | SettingMode::Verify => {
                vec![command_line(word.into_iter().chain(["get-bucket-versioning", "--bucket", &bucket]))]
            }
            SettingMode::Apply => vec![command_line(word.into_iter().chain([
                "put-bucket-versioning",
                "--bucket",
                &bucket,
                "--versioning-configuration",
                "Status=Enabled",
            ]))],
        }
    }

    async fn check(&self, params: &VersioningParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        Subject { store: &params.store, mode: params.mode }.examine(&On, cx).await
    }

    async fn run(&self, params: &VersioningParams, cx: &RunContext) -> Result<SettingOutput, ActionError> {
        Subject { store: &params.store, mode: params.mode }.settle(&On, cx).await
    }
}
