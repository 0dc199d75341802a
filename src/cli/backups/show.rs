//! `runbook backups show`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::open_store::{Shelves, Stores, of_catalog};
use super::row;
use crate::base::clock;
use crate::base::units::{ByteSize, human_duration};
use crate::catalog::Backup;
use crate::catalog::attest::{SignedProof, Verdict, proofs};
use crate::cli::{Exit, Failure, attest, document, wiring};
use crate::journal::AllowedSigners;
use crate::journal::signature::{self, Signer};
use crate::report::mask_text;

/// Arguments of `backups show`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups show 20260128T143002Z-base\n  runbook backups show 20260128T143002Z-base --allowed-signers signers --json\n\nEvery store that has a copy is shown. A proof is a restore by a run whose checks passed; with `--allowed-signers` it is said who signed it."
)]
pub struct Args {
    /// The backup: its id, or a unique beginning of it
    backup: String,
    #[command(flatten)]
    stores: Stores,
    /// Who is trusted to sign proofs, as `ssh-keygen -Y verify -f` takes it
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows every copy of a backup.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let signers = attest::signers(args.allowed_signers.as_deref())?.unwrap_or_default();
    let open_stores = args.stores.open_stores(args.json)?;
    let found = open_stores.list()?;
    let mut documents = Vec::new();
    for backup in found.copies(&args.backup)? {
        let proofs = read_proofs(&open_stores, backup)?;
        if args.json {
            documents.push(machine((backup, found.weak(backup)), &proofs, &signers));
        } else {
            people((backup, found.weak(backup)), &proofs, &signers);
        }
    }
    if args.json {
        document::write_json(&documents)?;
    }
    Ok(found.finish(Exit::Success))
}

fn read_proofs(open_stores: &Shelves, backup: &Backup) -> Result<Vec<SignedProof>, Failure> {
    let store = open_stores.reader(open_stores.open_store(&backup.store)?)?;
    let read = wiring::block_on(async { proofs(&*store, &backup.place()).await })?;
    read.map_err(|error| Failure::new(Exit::Failed, of_catalog(&error)).help("`runbook backups list` still works"))
}

/// Who signed a proof, in words.
fn signed(proof: &SignedProof, signers: &AllowedSigners) -> String {
    let Some(signature) = &proof.signature else { return "not signed".to_owned() };
    match signature::verify(&proof.text, signature, signers) {
        Ok(Signer::Known { principal }) => format!("signed by {principal}"),
        Ok(Signer::Unknown { fingerprint }) => format!("signed with {fingerprint}, whom nobody vouches for"),
        Err(why) => format!("SIGNATURE BROKEN: {why}"),
    }
}

fn machine((backup, weak): (&Backup, Option<&str>), proofs: &[SignedProof], signers: &AllowedSigners) -> Value {
    let proofs: Vec<Value> =
        proofs.iter().map(|proof| json!({ "proof": proof.proof, "signature": signed(proof, signers) })).collect();
    let mut value = row::document(backup, weak);
    value["manifest_content"] = json!(backup.manifest);
    value["proofs"] = json!(proofs);
    value
}

fn people((backup, weak): (&Backup, Option<&str>), proofs: &[SignedProof], signers: &AllowedSigners) {
    let (manifest, now) = (&backup.manifest, clock::now());
    let fact = |name: &str, value: &str| out!("  {name:12}  {}", mask_text(value));
    out!("{} in `{}`", mask_text(&manifest.id), mask_text(&backup.store));
    fact("source", &manifest.source);
    fact("kind", &row::kind(backup));
    let optional = [
        ("tier", &manifest.tier),
        ("environment", &manifest.environment),
        ("label", &manifest.label),
        ("run", &manifest.run),
        ("parent", &manifest.parent),
        ("snapshot", &manifest.snapshot.as_ref().map(|snapshot| snapshot.place.clone())),
    ];
    optional
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)))
        .for_each(|(name, value)| fact(name, value));
    let took = human_duration(clock::between(manifest.started_at, manifest.stopped_at));
    fact("ended", &format!("{} ({} ago), took {took}", manifest.stopped_at, row::age(manifest.stopped_at, now)));
    fact("folder", &backup.place().folder());
    fact("size", &format!("{} ({} bytes)", ByteSize(manifest.size_bytes()), manifest.size_bytes()));
    fact("encryption", row::cipher(backup));
    fact("state", &row::standing(backup, weak, now));
    if let Some(hold) = &backup.attested.hold {
        for hold in hold.before.iter().chain([hold]) {
            let end = match (&hold.lifted, hold.until) {
                (Some(end), _) => format!("; lifted {} by {}: {}", end.at, end.by, end.reason),
                (None, Some(until)) => format!("; until {until}"),
                (None, None) => String::new(),
            };
            fact("hold", &format!("since {} by {}: {}{end}", hold.since, hold.by, hold.reason));
        }
    }
    for fault in backup.attested.last_verified.iter().flat_map(|note| &note.faults) {
        fact("fault", fault);
    }
    for name in &backup.missing {
        fact("missing", name);
    }
    for proof in proofs {
        let Verdict::Passed = proof.proof.verdict else {
            fact(
                "not proven",
                &format!("{} by run {}: {}", proof.proof.at, proof.proof.run, proof.proof.checks.join(", ")),
            );
            continue;
        };
        let (run, mode) = (&proof.proof.run, &proof.proof.mode);
        fact("proof", &format!("{} by run {run} ({mode}), {}", proof.proof.at, signed(proof, signers)));
    }
    for object in &manifest.objects {
        let place = object.key.as_ref().map(|key| format!(", at `{key}`")).unwrap_or_default();
        fact("object", &format!("{}  {}  {}{place}", object.name, ByteSize(object.size_bytes), object.sha256));
    }
}
