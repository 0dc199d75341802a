//! `s3.policy`: what nobody may do to a bucket, whatever their own policies say.

mod document;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::setting::{
    Advice, Comparison, Difference, Setting, SettingMode, SettingOutput, Subject, bucket_name, refused,
};
use crate::action::{
    Action, ActionError, ActionSpec, Bucket, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, ReadBucket, ReadStore, RunContext, StoreRef,
};

/// Sets the statements of a bucket's policy that are ours.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy;

/// The arguments of `s3.policy`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// What is done with the difference.
    #[serde(default)]
    pub mode: SettingMode,
    /// The ARNs of those who may never delete, nor change how long anything is kept: the roles that make backups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_delete: Vec<String>,
}

/// What a role that only makes backups must never do.
const DELETING: [&str; 11] = [
    "s3:BypassGovernanceRetention",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:PutLifecycleConfiguration",
    "s3:PutObjectLegalHold",
    "s3:PutReplicationConfiguration",
];

struct Wished<'a>(&'a PolicyParams);

struct Found {
    bucket: String,
    root: String,
    policy: Option<Value>,
}

impl Wished<'_> {
    fn sid(&self, what: &str) -> String {
        let store = self.0.store.as_str().split(['-', '_']);
        let camel: String = store
            .map(|part| format!("{}{}", part[..1.min(part.len())].to_uppercase(), &part[1.min(part.len())..]))
            .collect();
        format!("Runbook{camel}{what}")
    }

    fn statements(&self, found: &Found) -> Vec<Value> {
        let bucket = format!("arn:aws:s3:::{}", found.bucket);
        let objects = format!("{bucket}/{}*", found.root);
        let mut statements = vec![json!({
            "Sid": self.sid("DenyInsecureTransport"),
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [bucket, objects],
            "Condition": { "Bool": { "aws:SecureTransport": "false" } },
        })];
        if !self.0.never_delete.is_empty() {
            statements.push(json!({
                "Sid": self.sid("DenyDelete"),
                "Effect": "Deny",
                "Principal": { "AWS": self.0.never_delete },
                "Action": DELETING,
                "Resource": [bucket, objects],
            }));
        }
        statements
    }

    fn is_own(&self, statement: &Value) -> bool {
        let sid = statement["Sid"].as_str().unwrap_or_default();
        ["DenyInsecureTransport", "DenyDelete"].iter().any(|what| sid == self.sid(what))
    }
}

impl Setting for Wished<'_> {
    type State = Found;

    async fn read(&self, _: &dyn ReadStore, bucket: &dyn ReadBucket) -> Result<Found, ActionError> {
        let policy = bucket.policy().await.map_err(refused)?;
        Ok(Found { bucket: bucket.bucket().to_owned(), root: bucket.root().to_owned(), policy })
    }

    fn compare(&self, found: &Found) -> Comparison {
        let mut compared = Comparison::default();
        let is = document::statements(found.policy.as_ref());
        let wished = self.statements(found);
        for statement in &wished {
            let sid = statement["Sid"].as_str().unwrap_or_default();
            match is.iter().find(|found| found["Sid"] == statement["Sid"]) {
                Some(found) if document::same(found, statement) => {}
                found => compared.differences.push(Difference {
                    setting: format!("statement `{sid}`"),
                    is: found.map(|found| document::canonical(found).to_string()),
                    wished: Some(document::canonical(statement).to_string()),
                }),
            }
        }
        for statement in &is {
            if wished.iter().any(|wished| wished["Sid"] == statement["Sid"]) {
                continue;
            }
            if self.is_own(statement) {
                let setting = format!("statement `{}`", statement["Sid"].as_str().unwrap_or_default());
                let is = Some(document::canonical(statement).to_string());
                compared.differences.push(Difference { setting, is, wished: None });
                continue;
            }
            compared.kept.push(format!("statement of others: {}", document::canonical(statement)));
            if document::is_public(statement) {
                compared.warnings.push(Advice::new(
                    format!("a statement of others lets everybody in: {}", document::canonical(statement)),
                    "have its owner remove it: this step leaves the statements of others alone",
                ));
            }
        }
        compared
    }

    async fn write(&self, bucket: &dyn Bucket, found: &Found) -> Result<(), ActionError> {
        let others =
            document::statements(found.policy.as_ref()).into_iter().filter(|statement| !self.is_own(statement));
        let statements: Vec<Value> = others.chain(self.statements(found)).collect();
        let mut policy = found.policy.clone().unwrap_or_else(|| json!({ "Version": "2012-10-17" }));
        policy["Statement"] = Value::Array(statements);
        bucket.put_policy(policy).await.map_err(refused)
    }
}

impl Action for Policy {
    const SPEC: ActionSpec = ActionSpec {
        name: "s3.policy",
        summary: "Denies unencrypted connections to a bucket, and deletions to the roles that make backups; the statements of others are kept.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "Encrypted connections only", with: "{ store: primary, mode: apply }" },
            Example {
                title: "A role that makes backups and can never delete one",
                with: "{ store: primary, mode: apply, never_delete: [ \"arn:aws:iam::111122223333:role/backup\" ] }",
            },
        ],
    };
    type Params = PolicyParams;
    type Output = SettingOutput;

    fn effects(&self, params: &PolicyParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let odd = params.never_delete.iter().enumerate().filter(|(_, arn)| !arn.starts_with("arn:"));
        let faults: Vec<ParamFault> = odd
            .map(|(at, arn)| {
                let fault = ParamFault::new(format!("/never_delete/{at}"), format!("`{arn}` is not an ARN"));
                fault.help("write it like `arn:aws:iam::111122223333:role/backup`")
            })
            .collect();
        if faults.is_empty() {
            Ok(Subject { store: &params.store, mode: params.mode }.effects(cx))
        } else {
            Err(faults)
        }
    }

    fn by_hand(&self, params: &PolicyParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Some(bucket) = bucket_name(cx.inventory, &params.store) else { return Vec::new() };
        vec![crate::action::by_hand::command_line(["aws", "s3api", "get-bucket-policy", "--bucket", &bucket])]
    }

    async fn check(&self, params: &PolicyParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        Subject { store: &params.store, mode: params.mode }.examine(&Wished(params), cx).await
    }

    async fn run(&self, params: &PolicyParams, cx: &RunContext) -> Result<SettingOutput, ActionError> {
        Subject { store: &params.store, mode: params.mode }.settle(&Wished(params), cx).await
    }
}
