//! `s3.replication`: whether what is put here also lies there, by rule and by sample.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::setting::{no_bucket, refused};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ObjectFacts, ParamFault, PlanContext, ReadBucket, ReadStore, ReplicationRule, ReplicationStatus, RunContext,
    StoreError, StoreRef, Target,
};
use crate::base::units::{Span, human_duration};
use crate::base::{Timestamp, clock};

/// Checks the replication of a bucket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replication;

/// The arguments of `s3.replication`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplicationParams {
    /// The store of the inventory that is copied.
    pub store: StoreRef,
    /// The store of the inventory that the copies lie in.
    pub replica: StoreRef,
    /// What the keys begin with that are sampled. Default: everything.
    #[serde(default)]
    pub prefix: String,
    /// How many objects are compared, spread over all of them, the newest among them. Default 20.
    #[serde(default = "twenty")]
    pub sample: u32,
    /// How old an object may be without being copied yet. Default `1h`.
    #[serde(default = "an_hour")]
    #[schemars(with = "String")]
    pub max_lag: Span,
}

fn twenty() -> u32 {
    20
}

fn an_hour() -> Span {
    Span(Duration::from_secs(3600))
}

/// The outputs of `s3.replication`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicationOutput {
    /// The ids of the rules that copy here.
    pub rules: Vec<String>,
    /// How many objects there are.
    pub objects: u64,
    /// How many were compared and are equal.
    pub equal: u64,
    /// How many were compared and wait, younger than `max_lag`.
    pub waiting: u64,
}

/// What comparing one object came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Equal,
    Waiting,
    Different(String),
}

/// The rules that copy what this store holds to the replica's bucket.
fn rules(all: &[ReplicationRule], root: &str, to: &str) -> Result<Vec<String>, String> {
    let about = |rule: &&ReplicationRule| root.starts_with(&rule.prefix) && rule.to_bucket == to;
    let found: Vec<&ReplicationRule> = all.iter().filter(about).collect();
    let works = |rule: &&ReplicationRule| rule.enabled && !rule.by_tag;
    let working: Vec<String> = found.iter().copied().filter(works).map(|rule| rule.id.clone()).collect();
    if !working.is_empty() {
        return Ok(working);
    }
    Err(match found.first() {
        Some(rule) if !rule.enabled => format!("the rule `{}` to `{to}` is disabled", rule.id),
        Some(rule) => format!("the rule `{}` to `{to}` copies only objects with certain tags", rule.id),
        None => format!("no rule copies everything below `{root}` to `{to}`"),
    })
}

/// So many of a list, spread over it, the newest among them.
fn sample(all: &[ObjectFacts], count: usize) -> Vec<&ObjectFacts> {
    let step = all.len().div_ceil(count.max(1)).max(1);
    let newest = all.iter().max_by_key(|facts| facts.modified_at);
    let mut chosen: Vec<&ObjectFacts> = all.iter().step_by(step).chain(newest).collect();
    chosen.sort_by(|a, b| a.key.cmp(&b.key));
    chosen.dedup_by(|a, b| a.key == b.key);
    chosen
}

/// Equal by size and by digest; by the server's mark where no digest was put with it.
fn judge(here: &ObjectFacts, there: &ObjectFacts) -> Verdict {
    if here.size_bytes != there.size_bytes {
        return Verdict::Different(format!("{} bytes here, {} there", here.size_bytes, there.size_bytes));
    }
    match (here.sha256(), there.sha256()) {
        (Some(one), Some(other)) if one == other => Verdict::Equal,
        (Some(_), Some(_)) => Verdict::Different("another digest".to_owned()),
        _ if here.etag.is_some() && here.etag == there.etag => Verdict::Equal,
        _ => Verdict::Different("other content, as far as its mark tells".to_owned()),
    }
}

struct Pair<'a> {
    here: &'a dyn ReadStore,
    bucket: &'a dyn ReadBucket,
    there: &'a dyn ReadStore,
}

impl Pair<'_> {
    async fn compare(&self, facts: &ObjectFacts, young_after: Timestamp) -> Result<Verdict, ActionError> {
        let here = self.here.head(&facts.key).await.map_err(refused)?;
        let verdict = match self.there.head(&facts.key).await {
            Ok(there) => judge(&here, &there),
            Err(StoreError::NotFound { .. }) => Verdict::Different("it is missing there".to_owned()),
            Err(error) => return Err(refused(error)),
        };
        let status = self.bucket.replicated(&facts.key).await.map_err(refused)?;
        Ok(match (verdict, status) {
            (_, ReplicationStatus::Failed) => Verdict::Different("the server could not copy it".to_owned()),
            (Verdict::Different(_), _) if here.modified_at > young_after => Verdict::Waiting,
            (verdict, _) => verdict,
        })
    }

    async fn all(&self, params: &ReplicationParams) -> Result<(u64, Vec<(String, Verdict)>), ActionError> {
        let objects = self.here.list(&params.prefix).await.map_err(refused)?;
        let lag = jiff::SignedDuration::try_from(params.max_lag.0).unwrap_or(jiff::SignedDuration::MAX);
        let young_after = clock::now().checked_sub(lag).unwrap_or(Timestamp::MIN);
        let mut verdicts = Vec::new();
        for facts in sample(&objects, usize::try_from(params.sample).unwrap_or(usize::MAX)) {
            let verdict = self.compare(facts, young_after).await?;
            verdicts.push((facts.key.to_string(), verdict));
        }
        Ok((objects.len() as u64, verdicts))
    }

    async fn rules(&self, params: &ReplicationParams) -> Result<Result<Vec<String>, String>, ActionError> {
        let there = self.there.read_bucket().ok_or_else(|| no_bucket(&params.replica))?;
        let all = self.bucket.replication().await.map_err(refused)?;
        Ok(rules(&all, self.bucket.root(), there.bucket()))
    }
}

const HELP: &str = "set the rule up with the provider's own tool; both buckets need versions, and the role of the rule \
                    needs access to both";

impl Action for Replication {
    const SPEC: ActionSpec = ActionSpec {
        name: "s3.replication",
        summary: "Checks that a bucket is copied to another one: by its rules, and by comparing a sample of objects.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example { title: "Compare fifty objects", with: "{ store: primary, replica: far, sample: 50 }" }],
    };
    type Params = ReplicationParams;
    type Output = ReplicationOutput;

    fn effects(&self, params: &ReplicationParams, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        if params.store == params.replica {
            let fault = ParamFault::new("/replica", "a store cannot be its own replica");
            return Err(vec![fault.help("name the store that the copies lie in")]);
        }
        let target = |store: &StoreRef| Target::Store { name: store.0.clone(), prefix: params.prefix.clone() };
        let effects = Effects::of(EffectClass::Read).target(Access::Read, target(&params.store));
        Ok(effects.target(Access::Read, target(&params.replica)))
    }

    async fn check(&self, params: &ReplicationParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let (here, there) = (cx.store(params.store.as_str())?, cx.store(params.replica.as_str())?);
        let bucket = here.read_bucket().ok_or_else(|| no_bucket(&params.store))?;
        let pair = Pair { here: &*here, bucket, there: &*there };
        Ok(match pair.rules(params).await? {
            Ok(rules) => Findings::default().pass(format!("copied by the rule `{}`", rules.join("`, `"))),
            Err(why) if cx.ahead => Findings::default().pending(why),
            Err(why) => Findings::default().refuse(why, HELP),
        })
    }

    async fn run(&self, params: &ReplicationParams, cx: &RunContext) -> Result<ReplicationOutput, ActionError> {
        let (here, there) = (cx.store(params.store.as_str())?, cx.store(params.replica.as_str())?);
        let bucket = here.as_read().read_bucket().ok_or_else(|| no_bucket(&params.store))?;
        let pair = Pair { here: here.as_read(), bucket, there: there.as_read() };
        let rules = pair.rules(params).await?.map_err(|why| ActionError::fatal(why).help(HELP))?;
        let (objects, verdicts) = pair.all(params).await?;
        let different: Vec<String> = verdicts
            .iter()
            .filter_map(|(key, verdict)| match verdict {
                Verdict::Different(why) => Some(format!("`{key}`: {why}")),
                Verdict::Equal | Verdict::Waiting => None,
            })
            .collect();
        if !different.is_empty() {
            let fact =
                format!("of {} objects compared {} differ: {}", verdicts.len(), different.len(), different.join("; "));
            let help = format!("objects older than {} must be there", human_duration(params.max_lag.0));
            return Err(ActionError::fatal(fact).help(help));
        }
        let count = |wanted: &Verdict| verdicts.iter().filter(|(_, verdict)| verdict == wanted).count() as u64;
        Ok(ReplicationOutput { rules, objects, equal: count(&Verdict::Equal), waiting: count(&Verdict::Waiting) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

    use super::{ObjectFacts, ReplicationRule, Verdict, judge, rules, sample};
    use crate::base::Timestamp;

    fn facts(key: &str, second: i64) -> ObjectFacts {
        ObjectFacts::new(key.parse().unwrap(), 3, Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_sample_is_spread_and_holds_the_newest() {
        let all: Vec<ObjectFacts> =
            (0..100).map(|n| facts(&format!("k{n:03}"), if n == 57 { 999 } else { n })).collect();
        let chosen: Vec<String> = sample(&all, 4).iter().map(|facts| facts.key.to_string()).collect();
        assert_eq!(chosen, ["k000", "k025", "k050", "k057", "k075"]);
        assert!(sample(&[], 4).is_empty());
    }

    #[test]
    fn a_rule_counts_when_it_is_enabled_and_about_everything() {
        let rule = |enabled, by_tag, prefix: &str| ReplicationRule {
            id: "r".into(),
            enabled,
            prefix: prefix.into(),
            by_tag,
            to_bucket: "far".into(),
            delete_markers: false,
        };
        assert_eq!(rules(&[rule(true, false, "")], "prod/", "far").unwrap(), ["r"]);
        assert!(rules(&[rule(true, false, "prod/orders/")], "prod/", "far").is_err());
        assert!(rules(&[rule(false, false, "")], "prod/", "far").unwrap_err().contains("disabled"));
        assert!(rules(&[rule(true, true, "")], "prod/", "far").unwrap_err().contains("tags"));
        assert!(rules(&[rule(true, false, "")], "prod/", "other").is_err());
    }

    #[test]
    fn content_is_equal_by_digest_or_by_mark_and_never_by_size_alone() {
        let (mut here, mut there) = (facts("k", 1), facts("k", 2));
        assert!(matches!(judge(&here, &there), Verdict::Different(_)));
        (here.etag, there.etag) = (Some("a".into()), Some("a".into()));
        assert_eq!(judge(&here, &there), Verdict::Equal);
        here.metadata.insert("sha256".into(), crate::base::Digest::of(b"a").to_string());
        there.metadata.insert("sha256".into(), crate::base::Digest::of(b"b").to_string());
        assert!(matches!(judge(&here, &there), Verdict::Different(_)));
    }
}
