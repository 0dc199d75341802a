//! The statements of a role's policy, each with its reason. Pure. Actions as the service authorization reference for
//! Amazon S3 names them.

use serde_json::{Value, json};

use super::Role;
use super::scope::Place;
use crate::action::StorageClass;
use crate::language::inventory::{ServerSideEncryption, StoreEntry};

/// Whether `expire` removes old versions too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OldVersions {
    /// It does.
    Delete,
    /// They stay: what was deleted can be brought back.
    Leave,
}

impl From<bool> for OldVersions {
    fn from(versions: bool) -> Self {
        if versions { Self::Delete } else { Self::Leave }
    }
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// Its name, unique in the policy.
    pub(super) sid: String,
    /// Why it stands there.
    pub(super) why: String,
    actions: Vec<String>,
    resources: Vec<String>,
    condition: Option<Value>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// Its statements.
    pub(super) statements: Vec<Statement>,
}

/// The actions of a role on objects, with the reason.
struct Need {
    what: &'static str,
    why: &'static str,
    actions: Vec<&'static str>,
}

impl Need {
    fn new(what: &'static str, actions: &[&'static str], why: &'static str) -> Self {
        Self { what, why, actions: actions.to_vec() }
    }
}

impl Policy {
    /// The policy of a role for parts of buckets.
    pub(super) fn of(role: Role, places: &[Place], versions: OldVersions) -> Self {
        let mut statements = Vec::new();
        for place in places {
            statements.extend(list(place));
            for need in on_objects(role, &place.entry, versions) {
                statements.push(objects(place, &need));
            }
            for need in on_bucket(role, versions) {
                statements.push(bucket(place, &need));
            }
            statements.extend(key(role, place));
        }
        Self { statements }
    }

    /// The policy as the provider takes it.
    pub(super) fn document(&self) -> Value {
        let statement = |statement: &Statement| {
            let mut value = json!({
                "Sid": statement.sid,
                "Effect": "Allow",
                "Action": statement.actions,
                "Resource": statement.resources,
            });
            if let Some(condition) = &statement.condition {
                value["Condition"] = condition.clone();
            }
            value
        };
        json!({ "Version": "2012-10-17", "Statement": self.statements.iter().map(statement).collect::<Vec<_>>() })
    }
}

/// Letters and digits only: `primary-store` and `List` give `PrimaryStoreList`.
fn sid(place: &Place, what: &str) -> String {
    let mut sid = String::new();
    for part in place.store.split(['-', '_']) {
        let mut letters = part.chars();
        sid.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        sid.push_str(letters.as_str());
    }
    sid + what
}

/// The provider's other worlds have names of their own.
fn partition(entry: &StoreEntry) -> &'static str {
    match entry.region.as_deref() {
        Some(region) if region.starts_with("cn-") => "aws-cn",
        Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
        Some(_) | None => "aws",
    }
}

fn arn(place: &Place) -> String {
    format!("arn:{}:s3:::{}", partition(&place.entry), place.bucket)
}

/// Every role lists: without the permission a missing object is answered by 403, which nobody can tell from a secret.
fn list(place: &Place) -> Vec<Statement> {
    let everything = place.patterns.iter().any(|pattern| pattern == "*");
    let condition = (!everything).then(|| json!({ "StringLikeIfExists": { "s3:prefix": place.patterns } }));
    let listed = Statement {
        sid: sid(place, "List"),
        why: "lists what is there; a missing object is then answered by 404 and not by 403 (`IfExists`: reading one \
              object names no prefix)"
            .to_owned(),
        actions: vec!["s3:ListBucket".to_owned()],
        resources: vec![arn(place)],
        condition,
    };
    let region =
        Need::new("Region", &["s3:GetBucketLocation"], "finds the region, which `allow_regions` is held against");
    vec![listed, bucket(place, &region)]
}

fn on_objects(role: Role, entry: &StoreEntry, versions: OldVersions) -> Vec<Need> {
    let read = |why| Need::new("Read", &["s3:GetObject"], why);
    let mut needs = Vec::new();
    match role {
        Role::Backup | Role::Wal => {
            needs.push(read("compares what is there before it answers that something is stored; fetches WAL"));
            let upload = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"];
            needs.push(Need::new(
                "Write",
                &upload,
                "stores objects; goes on with an upload that broke off, or takes it back",
            ));
            needs.extend(marks(entry));
        }
        Role::Restore => {
            needs.push(Need::new(
                "Read",
                &["s3:GetObject", "s3:GetObjectVersion"],
                "reads backups, also as they were before a change",
            ));
            if is_archived(entry) {
                needs.push(Need::new("Retrieve", &["s3:RestoreObject"], "has archived objects made readable"));
            }
        }
        Role::Expire => {
            needs.push(read("reads manifests, holds and proofs: what is needed is known from nothing else"));
            needs.push(Need::new(
                "Delete",
                &["s3:DeleteObject"],
                "deletes what retention lets go; with versions it can be brought back",
            ));
            if versions == OldVersions::Delete {
                let why = "deletes old versions for good: asked for with `--versions`";
                needs.push(Need::new("DeleteVersions", &["s3:DeleteObjectVersion"], why));
            }
        }
        Role::Admin => needs.push(read("reads manifests: a lifecycle rule must not delete what is needed")),
    }
    needs
}

/// What the store's settings put on new objects.
fn marks(entry: &StoreEntry) -> Vec<Need> {
    let mut needs = Vec::new();
    if !entry.tags.is_empty() {
        needs.push(Need::new("Tag", &["s3:PutObjectTagging"], "puts the tags of `tags` on new objects"));
    }
    if let Some(lock) = &entry.object_lock {
        let why = "locks new objects as `object_lock` says; it can lengthen a lock, never shorten one";
        needs.push(Need::new("Lock", &["s3:PutObjectRetention", "s3:GetObjectRetention"], why));
        if lock.legal_hold {
            let why = "sets the legal hold of `object_lock`";
            needs.push(Need::new("Hold", &["s3:PutObjectLegalHold", "s3:GetObjectLegalHold"], why));
        }
    }
    needs
}

fn is_archived(entry: &StoreEntry) -> bool {
    let class = entry.storage_class.as_deref().and_then(StorageClass::named);
    entry.retrieval.is_some() || class.is_some_and(StorageClass::is_archive)
}

fn on_bucket(role: Role, versions: OldVersions) -> Vec<Need> {
    match role {
        Role::Backup | Role::Wal => {
            let why = "finds its own uploads that broke off";
            vec![Need::new("Uploads", &["s3:ListBucketMultipartUploads"], why)]
        }
        Role::Restore => {
            vec![Need::new("Versions", &["s3:ListBucketVersions"], "finds what was there before a change")]
        }
        Role::Expire if versions == OldVersions::Delete => {
            vec![Need::new("Versions", &["s3:ListBucketVersions"], "finds old versions")]
        }
        Role::Expire => Vec::new(),
        Role::Admin => vec![Need::new(
            "Settings",
            &SETTINGS,
            "plans, sets and verifies the actions `s3.*`; reads and writes no objects",
        )],
    }
}

/// What the actions `s3.*` read and set.
const SETTINGS: [&str; 11] = [
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketPolicy",
    "s3:GetBucketVersioning",
    "s3:GetEncryptionConfiguration",
    "s3:GetLifecycleConfiguration",
    "s3:GetReplicationConfiguration",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
];

fn statement(place: &Place, need: &Need, resources: Vec<String>) -> Statement {
    Statement {
        sid: sid(place, need.what),
        why: need.why.to_owned(),
        actions: need.actions.iter().map(|action| (*action).to_owned()).collect(),
        resources,
        condition: None,
    }
}

fn bucket(place: &Place, need: &Need) -> Statement {
    statement(place, need, vec![arn(place)])
}

fn objects(place: &Place, need: &Need) -> Statement {
    let resources = place.patterns.iter().map(|pattern| format!("{}/{pattern}", arn(place))).collect();
    statement(place, need, resources)
}

/// A key of the key service is asked for at each object. Keys that are sent along (SSE-C) need no permission.
fn key(role: Role, place: &Place) -> Option<Statement> {
    let key = match place.entry.sse.as_ref()? {
        ServerSideEncryption::Kms(key) => key,
        ServerSideEncryption::AES256 | ServerSideEncryption::Customer(_) => return None,
    };
    let (actions, why): (&[&'static str], _) = match role {
        Role::Backup | Role::Wal => {
            (&["kms:Decrypt", "kms:GenerateDataKey"], "encrypts objects; an upload in parts decrypts them when it ends")
        }
        Role::Restore | Role::Expire | Role::Admin => (&["kms:Decrypt"], "decrypts objects"),
    };
    let region = place.entry.region.as_deref().unwrap_or("*");
    let resource = match (key.starts_with("arn:"), key.starts_with("alias/")) {
        (true, _) => key.clone(),
        // A policy names keys, not aliases: the condition below does.
        (false, true) => format!("arn:{}:kms:{region}:*:key/*", partition(&place.entry)),
        (false, false) => format!("arn:{}:kms:{region}:*:key/{key}", partition(&place.entry)),
    };
    let need = Need { what: "Key", why, actions: actions.to_vec() };
    let condition =
        key.starts_with("alias/").then(|| json!({ "ForAnyValue:StringEquals": { "kms:ResourceAliases": key } }));
    Some(Statement { condition, ..statement(place, &need, vec![resource]) })
}

#[cfg(test)]
mod tests {
    use super::super::scope::Place;
    use super::{OldVersions, Policy, Role, StoreEntry};

    fn place(settings: &str) -> Place {
        let entry: StoreEntry = serde_json::from_str(settings).expect("an entry");
        Place { store: "primary-eu".into(), entry, bucket: "b".into(), patterns: vec!["prod/orders/*".into()] }
    }

    fn actions(role: Role, settings: &str, versions: OldVersions) -> String {
        let document = Policy::of(role, &[place(settings)], versions).document();
        let statements = document["Statement"].as_array().expect("statements").clone();
        let actions = statements.iter().flat_map(|statement| statement["Action"].as_array().expect("actions").clone());
        actions.map(|action| action.as_str().expect("text").to_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn no_role_but_expire_deletes_and_none_but_admin_changes_the_bucket() {
        for role in [Role::Backup, Role::Restore, Role::Expire, Role::Admin, Role::Wal] {
            let all = actions(role, "{}", OldVersions::Delete);
            assert_eq!(all.contains("Delete"), role == Role::Expire, "{role:?}: {all}");
            assert_eq!(all.contains("PutLifecycle"), role == Role::Admin, "{role:?}: {all}");
            assert_eq!(all.contains("PutObject"), matches!(role, Role::Backup | Role::Wal), "{role:?}: {all}");
            assert!(!all.contains('*'), "{role:?}: {all}");
            assert!(all.contains("s3:ListBucket "), "{role:?}: {all}");
        }
        assert!(!actions(Role::Expire, "{}", OldVersions::Leave).contains("DeleteObjectVersion"));
    }

    #[test]
    fn settings_of_the_store_add_what_they_need() {
        let of = |role, settings| actions(role, settings, OldVersions::Leave);
        let kms = r#"{ "sse": { "kms": "arn:aws:kms:eu-west-1:1:key/k" } }"#;
        assert!(of(Role::Backup, kms).contains("kms:GenerateDataKey"));
        assert!(!of(Role::Restore, kms).contains("kms:GenerateDataKey"));
        assert!(!of(Role::Backup, r#"{ "sse": { "customer": "key" } }"#).contains("kms"));
        assert!(of(Role::Backup, r#"{ "tags": { "a": "b" } }"#).contains("PutObjectTagging"));
        assert!(
            of(Role::Backup, r#"{ "object_lock": { "mode": "governance", "keep": "1d" } }"#)
                .contains("PutObjectRetention")
        );
        assert!(of(Role::Restore, r#"{ "storage_class": "GLACIER" }"#).contains("RestoreObject"));
        assert!(!of(Role::Restore, r#"{ "storage_class": "GLACIER_IR" }"#).contains("RestoreObject"));
    }

    #[test]
    fn everything_is_bound_to_the_prefix_and_the_partition() {
        let policy = Policy::of(Role::Backup, &[place(r#"{ "region": "cn-north-1" }"#)], OldVersions::Leave);
        let text = policy.document().to_string();
        assert!(text.contains("arn:aws-cn:s3:::b/prod/orders/*"), "{text}");
        assert!(text.contains(r#""s3:prefix":["prod/orders/*"]"#), "{text}");
        assert_eq!(policy.statements[0].sid, "PrimaryEuList");
    }
}
