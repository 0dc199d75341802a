//! `s3.encryption`: how the server encrypts what is put without a word about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::setting::{Advice, Comparison, Difference, Setting, SettingMode, SettingOutput, Subject, refused};
use crate::action::{
    Action, ActionError, ActionSpec, Bucket, CheckContext, DefaultEncryption, EffectClass, Effects, Example, Findings,
    Idempotency, ParamFault, PlanContext, ReadBucket, ReadStore, RunContext, StoreRef,
};

/// Sets the default encryption of a bucket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Encryption;

/// The arguments of `s3.encryption`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncryptionParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// What is done with the difference.
    #[serde(default)]
    pub mode: SettingMode,
    /// The key of the key service, by its id or ARN. Default: a key of the store's (SSE-S3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms: Option<String>,
}

struct Wished(DefaultEncryption);

fn told(encryption: &DefaultEncryption) -> String {
    match encryption {
        DefaultEncryption::Aes256 => "AES256".to_owned(),
        DefaultEncryption::Kms { key: Some(key), .. } => format!("kms with the key `{key}`"),
        DefaultEncryption::Kms { key: None, .. } => "kms with the provider's own key".to_owned(),
        DefaultEncryption::Other(name) => name.clone(),
    }
}

/// The same method and the same key; a key's ARN ends in its id.
fn same(is: &DefaultEncryption, wished: &DefaultEncryption) -> bool {
    match (is, wished) {
        (DefaultEncryption::Kms { key: Some(is), .. }, DefaultEncryption::Kms { key: Some(wished), .. }) => {
            let id = |key: &str| key.rsplit('/').next().unwrap_or(key).to_owned();
            is == wished || (is.contains(':') != wished.contains(':') && id(is) == id(wished))
        }
        (DefaultEncryption::Aes256, DefaultEncryption::Aes256) => true,
        (
            DefaultEncryption::Kms { .. } | DefaultEncryption::Aes256 | DefaultEncryption::Other(_),
            DefaultEncryption::Kms { .. } | DefaultEncryption::Aes256 | DefaultEncryption::Other(_),
        ) => false,
    }
}

impl Setting for Wished {
    type State = Option<DefaultEncryption>;

    async fn read(&self, _: &dyn ReadStore, bucket: &dyn ReadBucket) -> Result<Self::State, ActionError> {
        bucket.encryption().await.map_err(refused)
    }

    fn compare(&self, state: &Self::State) -> Comparison {
        let mut compared = Comparison::default();
        match state {
            Some(is) if same(is, &self.0) => return compared,
            Some(is) => compared.differences.push(Difference::new("default encryption", told(is), told(&self.0))),
            None => compared.differences.push(Difference {
                setting: "default encryption".to_owned(),
                is: None,
                wished: Some(told(&self.0)),
            }),
        }
        compared.warnings.push(Advice::new(
            "only objects that are put from now on are encrypted so",
            "what is there stays as it was put; copy it onto itself to change it",
        ));
        compared
    }

    async fn write(&self, bucket: &dyn Bucket, _: &Self::State) -> Result<(), ActionError> {
        bucket.put_encryption(self.0.clone()).await.map_err(refused)
    }
}

impl EncryptionParams {
    fn wished(&self) -> Wished {
        Wished(match &self.kms {
            Some(key) => DefaultEncryption::Kms { key: Some(key.clone()), bucket_key: true },
            None => DefaultEncryption::Aes256,
        })
    }
}

impl Action for Encryption {
    const SPEC: ActionSpec = ActionSpec {
        name: "s3.encryption",
        summary: "Sets how a bucket encrypts at rest what is put without a word about it.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "With a key of the store's", with: "{ store: primary, mode: apply }" },
            Example {
                title: "With a key of the key service",
                with: "{ store: primary, mode: apply, kms: \"arn:aws:kms:eu-west-1:111122223333:key/1234abcd\" }",
            },
        ],
    };
    type Params = EncryptionParams;
    type Output = SettingOutput;

    fn effects(&self, params: &EncryptionParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        if params.kms.as_ref().is_some_and(String::is_empty) {
            return Err(vec![ParamFault::new("/kms", "the key is empty").help("give its id or ARN, or leave it out")]);
        }
        Ok(Subject { store: &params.store, mode: params.mode }.effects(cx))
    }

    async fn check(&self, params: &EncryptionParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        Subject { store: &params.store, mode: params.mode }.examine(&params.wished(), cx).await
    }

    async fn run(&self, params: &EncryptionParams, cx: &RunContext) -> Result<SettingOutput, ActionError> {
        Subject { store: &params.store, mode: params.mode }.settle(&params.wished(), cx).await
    }
}

#[cfg(test)]
mod tests {
    use super::{DefaultEncryption, same};

    fn kms(key: &str) -> DefaultEncryption {
        DefaultEncryption::Kms { key: Some(key.to_owned()), bucket_key: false }
    }

    #[test]
    fn a_key_is_the_same_by_its_id_and_by_its_arn() {
        assert!(same(&kms("arn:aws:kms:eu-west-1:1:key/ab"), &kms("ab")));
        assert!(!same(&kms("arn:aws:kms:eu-west-1:1:key/ab"), &kms("arn:aws:kms:eu-west-1:2:key/ab")));
        assert!(!same(&kms("ab"), &DefaultEncryption::Aes256));
    }
}
