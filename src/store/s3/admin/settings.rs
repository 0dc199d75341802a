//! The small settings: region, versions, encryption, policy.

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration,
    ServerSideEncryptionRule, VersioningConfiguration,
};
use serde_json::Value;

use super::super::region::of_bucket;
use super::super::session::Session;
use super::unless_unset;
use crate::action::{DefaultEncryption, StoreError, Versioning};

pub(super) async fn region(session: &Session) -> Result<String, StoreError> {
    let found = of_bucket(session.client(), session.bucket()).await;
    found.ok_or_else(|| session.refused(format!("the bucket `{}` does not tell its region", session.bucket())))
}

pub(super) async fn versioning(session: &Session) -> Result<Versioning, StoreError> {
    let asked = session.asked("", "read the versioning of", "s3:GetBucketVersioning");
    let answer = session.client().get_bucket_versioning().bucket(session.bucket()).send().await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return in_other_words(&error).ok_or_else(|| asked.failed(&error)),
    };
    Ok(match answer.status() {
        Some(BucketVersioningStatus::Enabled) => Versioning::On,
        Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
        Some(_) | None => Versioning::Off,
    })
}

/// What an answer says that came under another name than S3's, as some servers give it.
fn in_other_words<E>(error: &SdkError<E>) -> Option<Versioning> {
    let answer = error.raw_response().filter(|answer| answer.status().is_success())?;
    let text = String::from_utf8_lossy(answer.body().bytes()?).into_owned();
    let status = text.split("<Status>").nth(1).and_then(|rest| rest.split('<').next());
    match status {
        None => Some(Versioning::Off),
        Some("Enabled") => Some(Versioning::On),
        Some("Suspended") => Some(Versioning::Suspended),
        Some(_) => None,
    }
}

pub(super) async fn put_versioning(session: &Session, versioning: Versioning) -> Result<(), StoreError> {
    let status = match versioning {
        Versioning::On => BucketVersioningStatus::Enabled,
        Versioning::Suspended => BucketVersioningStatus::Suspended,
        Versioning::Off => return Err(session.refused("versions cannot be turned off, only suspended".to_owned())),
    };
    let configuration = VersioningConfiguration::builder().status(status).build();
    let request = session.client().put_bucket_versioning().bucket(session.bucket());
    let answer = request.versioning_configuration(configuration).send().await;
    let asked = session.asked("", "set the versioning of", "s3:PutBucketVersioning");
    answer.map(drop).map_err(|error| asked.failed(&error))
}

pub(super) async fn encryption(session: &Session) -> Result<Option<DefaultEncryption>, StoreError> {
    let answer = session.client().get_bucket_encryption().bucket(session.bucket()).send().await;
    let what = ("read the default encryption of", "s3:GetEncryptionConfiguration");
    let answer = unless_unset(session, answer, what, &["ServerSideEncryptionConfigurationNotFoundError"])?;
    let rules = answer.and_then(|answer| answer.server_side_encryption_configuration);
    Ok(rules.and_then(|found| found.rules().iter().find_map(method)))
}

fn method(rule: &ServerSideEncryptionRule) -> Option<DefaultEncryption> {
    let default = rule.apply_server_side_encryption_by_default()?;
    Some(match default.sse_algorithm() {
        ServerSideEncryption::Aes256 => DefaultEncryption::Aes256,
        ServerSideEncryption::AwsKms => DefaultEncryption::Kms {
            key: default.kms_master_key_id().map(str::to_owned),
            bucket_key: rule.bucket_key_enabled().unwrap_or(false),
        },
        other => DefaultEncryption::Other(other.as_str().to_owned()),
    })
}

pub(super) async fn put_encryption(session: &Session, encryption: DefaultEncryption) -> Result<(), StoreError> {
    let (algorithm, key, bucket_key) = match encryption {
        DefaultEncryption::Aes256 => (ServerSideEncryption::Aes256, None, false),
        DefaultEncryption::Kms { key, bucket_key } => (ServerSideEncryption::AwsKms, key, bucket_key),
        DefaultEncryption::Other(name) => (ServerSideEncryption::from(name.as_str()), None, false),
    };
    let unsaid = |error| session.refused(format!("the encryption cannot be written: {error}"));
    let default = ServerSideEncryptionByDefault::builder().sse_algorithm(algorithm).set_kms_master_key_id(key);
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(default.build().map_err(unsaid)?)
        .set_bucket_key_enabled(bucket_key.then_some(true));
    let configuration = ServerSideEncryptionConfiguration::builder().rules(rule.build()).build().map_err(unsaid)?;
    let request = session.client().put_bucket_encryption().bucket(session.bucket());
    let answer = request.server_side_encryption_configuration(configuration).send().await;
    let asked = session.asked("", "set the default encryption of", "s3:PutEncryptionConfiguration");
    answer.map(drop).map_err(|error| asked.failed(&error))
}

pub(super) async fn policy(session: &Session) -> Result<Option<Value>, StoreError> {
    let answer = session.client().get_bucket_policy().bucket(session.bucket()).send().await;
    let answer = unless_unset(session, answer, ("read the policy of", "s3:GetBucketPolicy"), &["NoSuchBucketPolicy"])?;
    let Some(text) = answer.and_then(|answer| answer.policy) else { return Ok(None) };
    let unread = |error| session.refused(format!("the policy of `{}` is no JSON: {error}", session.bucket()));
    serde_json::from_str(&text).map(Some).map_err(unread)
}

pub(super) async fn put_policy(session: &Session, policy: Value) -> Result<(), StoreError> {
    let request = session.client().put_bucket_policy().bucket(session.bucket()).policy(policy.to_string());
    let asked = session.asked("", "set the policy of", "s3:PutBucketPolicy");
    request.send().await.map(drop).map_err(|error| asked.failed(&error))
}
