//! The replication rules of the bucket, and how far an object has come.

use aws_sdk_s3::types::{DeleteMarkerReplicationStatus, ReplicationRule as TheirRule, ReplicationRuleStatus};

use super::super::session::Session;
use super::unless_unset;
use crate::action::{ObjectKey, ReplicationRule, ReplicationStatus, StoreError};

const READ: (&str, &str) = ("read the replication rules of", "s3:GetReplicationConfiguration");

pub(super) async fn rules(session: &Session) -> Result<Vec<ReplicationRule>, StoreError> {
    let answer = session.client().get_bucket_replication().bucket(session.bucket()).send().await;
    let answer = unless_unset(session, answer, READ, &["ReplicationConfigurationNotFoundError"])?;
    let configuration = answer.and_then(|answer| answer.replication_configuration);
    Ok(configuration.map(|found| found.rules().iter().map(ours).collect()).unwrap_or_default())
}

/// The old way is a prefix beside the filter.
#[expect(deprecated, reason = "rules written in the old way are read too")]
fn ours(rule: &TheirRule) -> ReplicationRule {
    let filter = rule.filter();
    let and = filter.and_then(|filter| filter.and());
    let prefix = and.and_then(|and| and.prefix()).or_else(|| filter.and_then(|filter| filter.prefix()));
    let to = rule.destination().map(|destination| destination.bucket()).unwrap_or_default();
    let markers = rule.delete_marker_replication().and_then(|markers| markers.status());
    ReplicationRule {
        id: rule.id().unwrap_or_default().to_owned(),
        enabled: *rule.status() == ReplicationRuleStatus::Enabled,
        prefix: prefix.or(rule.prefix()).unwrap_or_default().to_owned(),
        by_tag: filter.is_some_and(|filter| filter.tag().is_some()) || and.is_some_and(|and| !and.tags().is_empty()),
        to_bucket: to.rsplit(':').next().unwrap_or(to).to_owned(),
        delete_markers: markers == Some(&DeleteMarkerReplicationStatus::Enabled),
    }
}

pub(super) async fn status(session: &Session, key: &ObjectKey) -> Result<ReplicationStatus, StoreError> {
    let object = session.object(key);
    let request = session.client().head_object().bucket(session.bucket()).key(&object);
    let request = request
        .set_sse_customer_algorithm(session.customer_algorithm())
        .set_sse_customer_key(session.customer_key())
        .set_sse_customer_key_md5(session.customer_md5());
    let answer = request.send().await;
    let answer = answer.map_err(|error| session.asked(&object, "read the facts of", "s3:GetObject").failed(&error))?;
    Ok(match answer.replication_status().map(|status| status.as_str()) {
        Some("PENDING") => ReplicationStatus::Pending,
        Some("COMPLETE" | "COMPLETED") => ReplicationStatus::Completed,
        Some("FAILED") => ReplicationStatus::Failed,
        Some("REPLICA") => ReplicationStatus::Replica,
        Some(_) | None => ReplicationStatus::Unknown,
    })
}
