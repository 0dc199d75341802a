//! The default of Object Lock.

use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};

use super::super::session::Session;
use super::unless_unset;
use crate::action::{DefaultLock, LockDefault, StoreError};
use crate::language::inventory::LockMode;

const READ: (&str, &str) = ("read the Object Lock settings of", "s3:GetBucketObjectLockConfiguration");
const WRITE: (&str, &str) = ("set the Object Lock default of", "s3:PutBucketObjectLockConfiguration");

pub(super) async fn read(session: &Session) -> Result<DefaultLock, StoreError> {
    let answer = session.client().get_object_lock_configuration().bucket(session.bucket()).send().await;
    let unset =
        ["ObjectLockConfigurationNotFoundError", "ObjectLockConfigurationNotFound", "NoSuchObjectLockConfiguration"];
    let Some(answer) = unless_unset(session, answer, READ, &unset)? else { return Ok(DefaultLock::Off) };
    let Some(configuration) = answer.object_lock_configuration() else { return Ok(DefaultLock::Off) };
    if configuration.object_lock_enabled() != Some(&ObjectLockEnabled::Enabled) {
        return Ok(DefaultLock::Off);
    }
    let retention = configuration.rule().and_then(ObjectLockRule::default_retention);
    Ok(retention.and_then(lock).map_or(DefaultLock::WithoutDefault, DefaultLock::Locks))
}

fn lock(retention: &DefaultRetention) -> Option<LockDefault> {
    let mode = match retention.mode()? {
        ObjectLockRetentionMode::Compliance => LockMode::Compliance,
        _ => LockMode::Governance,
    };
    let years = retention.years().map(|years| years.saturating_mul(365));
    let days = u32::try_from(retention.days().or(years)?).ok()?;
    Some(LockDefault { mode, days })
}

pub(super) async fn write(session: &Session, default: LockDefault) -> Result<(), StoreError> {
    let mode = match default.mode {
        LockMode::Governance => ObjectLockRetentionMode::Governance,
        LockMode::Compliance => ObjectLockRetentionMode::Compliance,
    };
    let days = i32::try_from(default.days).unwrap_or(i32::MAX);
    let rule = ObjectLockRule::builder().default_retention(DefaultRetention::builder().mode(mode).days(days).build());
    let configuration =
        ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule.build()).build();
    let request = session.client().put_object_lock_configuration().bucket(session.bucket());
    let answer = request.object_lock_configuration(configuration).send().await;
    answer.map(drop).map_err(|error| session.asked("", WRITE.0, WRITE.1).failed(&error))
}
