//! Where a bucket really lies. Data may be bound to a region by law: what cannot be shown to lie there is refused.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::BucketLocationConstraint;

use super::connect::Wanted;
use super::error::{Asked, bucket_region};
use crate::action::StoreError;

/// Asks for the region of a bucket; none when the server does not tell.
pub(super) async fn of_bucket(client: &Client, bucket: &str) -> Option<String> {
    let header = match client.head_bucket().bucket(bucket).send().await {
        Ok(answer) => answer.bucket_region,
        // S3 names the region even to those who asked in the wrong one.
        Err(error) => bucket_region(&error),
    };
    if header.is_some() {
        return header;
    }
    let location = client.get_bucket_location().bucket(bucket).send().await.ok()?;
    location_name(location.location_constraint)
}

/// Reads the answer of GetBucketLocation: the oldest region has no name there, and the second an old one.
fn location_name(constraint: Option<BucketLocationConstraint>) -> Option<String> {
    let name = match constraint.as_ref().map_or("", BucketLocationConstraint::as_str) {
        "" => "us-east-1",
        "EU" => "eu-west-1",
        other => other,
    };
    Some(name.to_owned())
}

/// Refuses a bucket outside the regions that the settings allow.
pub(super) async fn allow(wanted: &Wanted<'_>, client: &Client) -> Result<(), StoreError> {
    let allowed = &wanted.entry.allow_regions;
    if allowed.is_empty() {
        return Ok(());
    }
    let list = allowed.iter().map(|region| format!("`{region}`")).collect::<Vec<_>>().join(", ");
    let refused = |what: String| StoreError::Refused { store: wanted.store.to_owned(), what };
    let asked = Asked {
        store: wanted.store,
        bucket: wanted.bucket,
        object: "",
        verb: "ask for the region of",
        permission: "s3:ListBucket",
    };
    let real = match client.head_bucket().bucket(wanted.bucket).send().await {
        Ok(answer) => answer.bucket_region,
        Err(error) => Some(bucket_region(&error).ok_or_else(|| asked.failed(&error))?),
    };
    let real = match real {
        Some(real) => real,
        None => of_bucket(client, wanted.bucket).await.ok_or_else(|| {
            refused(format!(
                "the bucket `{}` does not tell its region, and only {list} is allowed (`allow_regions`)",
                wanted.bucket
            ))
        })?,
    };
    if allowed.contains(&real) {
        return Ok(());
    }
    Err(refused(format!(
        "the bucket `{}` lies in the region `{real}`; `allow_regions` has only {list}, so nothing is read or written",
        wanted.bucket
    )))
}
