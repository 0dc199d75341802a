//! One backup as people and machines are told of it.

use serde_json::{Value, json};

use crate::action::Encrypted;
use crate::base::clock::between;
use crate::base::units::human_duration;
use crate::base::{Timestamp, clock};
use crate::catalog::attest::Verdict;
use crate::catalog::{Backup, DamagedBackup};

/// What is to be known of a backup before it is relied on, in a few words. An increment is as good as the weakest of its
/// links.
pub fn standing(backup: &Backup, weak: Option<&str>, now: Timestamp) -> String {
    let mut words: Vec<String> = weak.map(|why| format!("CANNOT BE RESTORED: {why}")).into_iter().collect();
    let attested = &backup.attested;
    if !backup.missing.is_empty() {
        words.push(format!("INCOMPLETE ({} objects missing)", backup.missing.len()));
    }
    if let Some(note) = &attested.last_verified {
        let level = note.level.as_str();
        words.push(match note.verdict {
            Verdict::Passed => format!("verified {} ago ({level})", age(note.at, now)),
            Verdict::Failed => format!("DAMAGED, as a verification found {} ago", age(note.at, now)),
        });
    }
    if let Some(proof) = &attested.last_proof {
        words.push(format!("proven {} ago", age(proof.at, now)));
    }
    if let Some(proof) = &attested.last_failed {
        words.push(format!("its restore FAILED its checks {} ago", age(proof.at, now)));
    }
    if let Some(hold) = &attested.hold {
        words.push(match hold.lasting(now).map(|hold| hold.until) {
            None => "hold has ended".to_owned(),
            Some(Some(until)) => format!("held until {}", until.strftime("%F")),
            Some(None) => "held".to_owned(),
        });
    }
    if words.is_empty() { "unverified".to_owned() } else { words.join(", ") }
}

/// How long ago something was, roughly: `3h`, `12d`.
pub fn age(at: Timestamp, now: Timestamp) -> String {
    let gone = between(at, now);
    match gone.as_secs() {
        0..3600 => human_duration(gone),
        3600..172_800 => format!("{}h", gone.as_secs() / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// How its bytes are encrypted, in a word.
pub fn cipher(backup: &Backup) -> &'static str {
    let mut ciphers = backup.manifest.objects.iter().map(|object| object.encoding.encryption.as_ref());
    match ciphers.find(Option::is_some).flatten() {
        None => "none",
        Some(Encrypted::Age { .. } | Encrypted::AgePassphrase) => "age",
        Some(Encrypted::OpensslEnc { .. }) => "openssl",
        Some(Encrypted::GpgSymmetric { .. }) => "gpg",
    }
}

/// Its kind; an increment says so.
pub fn kind(backup: &Backup) -> String {
    let kind = &backup.manifest.kind;
    if backup.manifest.parent.is_some() { format!("{kind} (incr)") } else { kind.clone() }
}

/// A backup for machines; `weak` says why what it rests on cannot be restored.
pub fn document(backup: &Backup, weak: Option<&str>) -> Value {
    let manifest = &backup.manifest;
    json!({
        "id": manifest.id,
        "store": backup.store,
        "prefix": backup.prefix,
        "folder": backup.place().folder(),
        "source": manifest.source,
        "kind": manifest.kind,
        "tier": manifest.tier,
        "environment": manifest.environment,
        "label": manifest.label,
        "run": manifest.run,
        "parent": manifest.parent,
        "snapshot": manifest.snapshot.as_ref().map(|snapshot| &snapshot.place),
        "started_at": manifest.started_at,
        "stopped_at": manifest.stopped_at,
        "age_ms": u64::try_from(between(manifest.stopped_at, clock::now()).as_millis()).unwrap_or(u64::MAX),
        "size_bytes": manifest.size_bytes(),
        "objects": manifest.objects.len(),
        "encryption": cipher(backup),
        "manifest": backup.digest,
        "held": backup.attested.is_held(clock::now()),
        "hold": backup.attested.hold,
        "last_proof": backup.attested.last_proof,
        "last_failed_proof": backup.attested.last_failed,
        "last_verified": backup.attested.last_verified,
        "missing": backup.missing,
        "rests_on_fault": weak,
    })
}

/// A damaged manifest for machines.
pub fn damaged(store: &str, damaged: &DamagedBackup) -> Value {
    json!({ "store": store, "key": damaged.key.as_str(), "why": damaged.why })
}
