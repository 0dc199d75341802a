//! Lifecycle rules as the server writes them. Everything it knows is read and written back: a foreign rule survives.

use std::collections::BTreeMap;

use aws_sdk_s3::error::BuildError;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration,
    LifecycleRule as TheirRule, LifecycleRuleAndOperator, LifecycleRuleFilter as TheirFilter,
    NoncurrentVersionExpiration, NoncurrentVersionTransition, Tag, Transition as TheirTransition,
    TransitionDefaultMinimumObjectSize, TransitionStorageClass,
};

use super::super::session::Session;
use super::unless_unset;
use crate::action::{
    Lifecycle, LifecycleFilter, LifecycleRule, Moment, NoncurrentExpiry, NoncurrentTransition, StoreError, Transition,
};
use crate::base::Timestamp;

const READ: (&str, &str) = ("read the lifecycle rules of", "s3:GetLifecycleConfiguration");
const WRITE: (&str, &str) = ("set the lifecycle rules of", "s3:PutLifecycleConfiguration");

pub(super) async fn read(session: &Session) -> Result<Lifecycle, StoreError> {
    let answer = session.client().get_bucket_lifecycle_configuration().bucket(session.bucket()).send().await;
    let Some(answer) = unless_unset(session, answer, READ, &["NoSuchLifecycleConfiguration"])? else {
        return Ok(Lifecycle::default());
    };
    let smallest = answer.transition_default_minimum_object_size.as_ref();
    Ok(Lifecycle {
        rules: answer.rules().iter().map(ours).collect(),
        smallest_transition: smallest.map(|smallest| smallest.as_str().to_owned()),
    })
}

pub(super) async fn write(session: &Session, lifecycle: Lifecycle) -> Result<(), StoreError> {
    let asked = session.asked("", WRITE.0, WRITE.1);
    if lifecycle.rules.is_empty() {
        let answer = session.client().delete_bucket_lifecycle().bucket(session.bucket()).send().await;
        return answer.map(drop).map_err(|error| asked.failed(&error));
    }
    let unsaid = |error: BuildError| session.refused(format!("a lifecycle rule cannot be written: {error}"));
    let rules = lifecycle.rules.iter().map(theirs).collect::<Result<Vec<_>, _>>().map_err(unsaid)?;
    let configuration = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build().map_err(unsaid)?;
    let smallest = lifecycle.smallest_transition.as_deref().map(TransitionDefaultMinimumObjectSize::from);
    let request = session.client().put_bucket_lifecycle_configuration().bucket(session.bucket());
    let request = request.lifecycle_configuration(configuration).set_transition_default_minimum_object_size(smallest);
    request.send().await.map(drop).map_err(|error| asked.failed(&error))
}

fn number(count: Option<i32>) -> Option<u32> {
    count.and_then(|count| u32::try_from(count).ok())
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn moment(days: Option<i32>, date: Option<&DateTime>) -> Option<Moment> {
    let day = date.and_then(|date| Timestamp::from_second(date.secs()).ok());
    day.map(Moment::On).or_else(|| number(days).map(Moment::AfterDays))
}

fn date(at: Timestamp) -> DateTime {
    DateTime::from_secs(at.as_second())
}

fn ours(rule: &TheirRule) -> LifecycleRule {
    let expiration = rule.expiration();
    LifecycleRule {
        id: rule.id().unwrap_or_default().to_owned(),
        enabled: *rule.status() == ExpirationStatus::Enabled,
        filter: filter(rule),
        transitions: rule.transitions().iter().filter_map(transition).collect(),
        expiry: expiration.and_then(|expiry| moment(expiry.days(), expiry.date())),
        lone_delete_markers: expiration.and_then(LifecycleExpiration::expired_object_delete_marker).unwrap_or(false),
        noncurrent_transitions: rule.noncurrent_version_transitions().iter().filter_map(noncurrent).collect(),
        noncurrent_expiry: rule.noncurrent_version_expiration().and_then(|expiry| {
            let newer_kept = number(expiry.newer_noncurrent_versions());
            Some(NoncurrentExpiry { days: number(expiry.noncurrent_days())?, newer_kept })
        }),
        abort_uploads_after_days: rule
            .abort_incomplete_multipart_upload()
            .and_then(|abort| number(abort.days_after_initiation())),
    }
}

/// The old way is a prefix beside the filter.
#[expect(deprecated, reason = "rules written in the old way are read too")]
fn filter(rule: &TheirRule) -> LifecycleFilter {
    let size = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
    let pair = |tag: &Tag| (tag.key().to_owned(), tag.value().to_owned());
    let Some(filter) = rule.filter() else {
        return LifecycleFilter { prefix: rule.prefix().unwrap_or_default().to_owned(), ..LifecycleFilter::default() };
    };
    match filter.and() {
        Some(and) => LifecycleFilter {
            prefix: and.prefix().unwrap_or_default().to_owned(),
            tags: and.tags().iter().map(pair).collect(),
            larger_than_bytes: size(and.object_size_greater_than()),
            smaller_than_bytes: size(and.object_size_less_than()),
        },
        None => LifecycleFilter {
            prefix: filter.prefix().unwrap_or_default().to_owned(),
            tags: filter.tag().iter().map(|tag| pair(tag)).collect(),
            larger_than_bytes: size(filter.object_size_greater_than()),
            smaller_than_bytes: size(filter.object_size_less_than()),
        },
    }
}

fn transition(step: &TheirTransition) -> Option<Transition> {
    let class = step.storage_class()?.as_str().to_owned();
    Some(Transition { when: moment(step.days(), step.date())?, class })
}

fn noncurrent(step: &NoncurrentVersionTransition) -> Option<NoncurrentTransition> {
    Some(NoncurrentTransition {
        days: number(step.noncurrent_days())?,
        class: step.storage_class()?.as_str().to_owned(),
        newer_kept: number(step.newer_noncurrent_versions()),
    })
}

fn theirs(rule: &LifecycleRule) -> Result<TheirRule, BuildError> {
    let status = if rule.enabled { ExpirationStatus::Enabled } else { ExpirationStatus::Disabled };
    let transitions: Vec<TheirTransition> = rule.transitions.iter().map(their_transition).collect();
    let old: Vec<NoncurrentVersionTransition> = rule.noncurrent_transitions.iter().map(their_noncurrent).collect();
    let old_expiry = rule.noncurrent_expiry.as_ref().map(|expiry| {
        NoncurrentVersionExpiration::builder()
            .noncurrent_days(count(expiry.days))
            .set_newer_noncurrent_versions(expiry.newer_kept.map(count))
            .build()
    });
    let abort = rule
        .abort_uploads_after_days
        .map(|days| AbortIncompleteMultipartUpload::builder().days_after_initiation(count(days)).build());
    TheirRule::builder()
        .id(&rule.id)
        .status(status)
        .filter(their_filter(&rule.filter)?)
        .set_transitions(Some(transitions).filter(|steps| !steps.is_empty()))
        .set_expiration(expiration(rule))
        .set_noncurrent_version_transitions(Some(old).filter(|steps| !steps.is_empty()))
        .set_noncurrent_version_expiration(old_expiry)
        .set_abort_incomplete_multipart_upload(abort)
        .build()
}

fn expiration(rule: &LifecycleRule) -> Option<LifecycleExpiration> {
    let builder = LifecycleExpiration::builder();
    match (rule.expiry, rule.lone_delete_markers) {
        (Some(Moment::AfterDays(days)), _) => Some(builder.days(count(days)).build()),
        (Some(Moment::On(at)), _) => Some(builder.date(date(at)).build()),
        (None, true) => Some(builder.expired_object_delete_marker(true).build()),
        (None, false) => None,
    }
}

fn their_transition(step: &Transition) -> TheirTransition {
    let builder = TheirTransition::builder().storage_class(TransitionStorageClass::from(step.class.as_str()));
    match step.when {
        Moment::AfterDays(days) => builder.days(count(days)).build(),
        Moment::On(at) => builder.date(date(at)).build(),
    }
}

fn their_noncurrent(step: &NoncurrentTransition) -> NoncurrentVersionTransition {
    NoncurrentVersionTransition::builder()
        .noncurrent_days(count(step.days))
        .storage_class(TransitionStorageClass::from(step.class.as_str()))
        .set_newer_noncurrent_versions(step.newer_kept.map(count))
        .build()
}

/// One condition stands by itself, several stand together.
fn their_filter(filter: &LifecycleFilter) -> Result<TheirFilter, BuildError> {
    let size = |bytes: Option<u64>| bytes.and_then(|bytes| i64::try_from(bytes).ok());
    let (larger, smaller) = (size(filter.larger_than_bytes), size(filter.smaller_than_bytes));
    let tags = their_tags(&filter.tags)?;
    let prefix = Some(filter.prefix.clone()).filter(|prefix| !prefix.is_empty());
    let conditions =
        tags.len() + usize::from(prefix.is_some()) + usize::from(larger.is_some()) + usize::from(smaller.is_some());
    if conditions > 1 {
        let and =
            LifecycleRuleAndOperator::builder().set_prefix(prefix).set_tags(Some(tags).filter(|tags| !tags.is_empty()));
        let and = and.set_object_size_greater_than(larger).set_object_size_less_than(smaller).build();
        return Ok(TheirFilter::builder().and(and).build());
    }
    let builder = TheirFilter::builder().set_tag(tags.into_iter().next());
    let builder = builder.set_object_size_greater_than(larger).set_object_size_less_than(smaller);
    // An empty prefix is how "everything" is written.
    let everything = (conditions == 0).then(String::new);
    Ok(builder.set_prefix(prefix.or(everything)).build())
}

fn their_tags(tags: &BTreeMap<String, String>) -> Result<Vec<Tag>, BuildError> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

    use super::{
        LifecycleFilter, LifecycleRule, Moment, NoncurrentExpiry, NoncurrentTransition, Transition, ours, theirs,
    };

    #[test]
    fn a_rule_with_everything_survives_reading_and_writing() {
        let filter = |prefix: &str, tags: &[(&str, &str)], larger: Option<u64>| LifecycleFilter {
            prefix: prefix.into(),
            tags: tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            larger_than_bytes: larger,
            smaller_than_bytes: larger.map(|bytes| bytes * 2),
        };
        let day = "2030-01-01T00:00:00Z".parse().unwrap();
        let filters = [
            filter("", &[], None),
            filter("a/", &[], None),
            filter("", &[("k", "v")], None),
            filter("a/", &[("k", "v"), ("l", "w")], Some(5)),
        ];
        for filter in filters {
            let rule = LifecycleRule {
                id: "x".into(),
                enabled: false,
                filter,
                transitions: vec![
                    Transition { when: Moment::AfterDays(30), class: "STANDARD_IA".into() },
                    Transition { when: Moment::On(day), class: "A_CLASS_OF_TOMORROW".into() },
                ],
                expiry: Some(Moment::On(day)),
                noncurrent_transitions: vec![NoncurrentTransition {
                    days: 3,
                    class: "GLACIER".into(),
                    newer_kept: Some(2),
                }],
                noncurrent_expiry: Some(NoncurrentExpiry { days: 9, newer_kept: Some(1) }),
                abort_uploads_after_days: Some(7),
                ..LifecycleRule::default()
            };
            assert_eq!(ours(&theirs(&rule).unwrap()), rule);
            let markers = LifecycleRule { expiry: None, lone_delete_markers: true, ..rule };
            assert_eq!(ours(&theirs(&markers).unwrap()), markers);
        }
    }
}
