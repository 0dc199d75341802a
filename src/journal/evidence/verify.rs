//! Holds a bundle against itself: knows nothing but the file, and trusts nothing in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};

use serde::Serialize;
use serde_json::Value;

use super::manifest::{FORMAT, Manifest, Member};
use super::tarball::{Next, Reader};
use super::{LEDGER, MANIFEST, MANIFEST_SIGNATURE, document};
use crate::base::Digest;
use crate::base::digest::Hasher;
use crate::event::{Event, EventKind};
use crate::journal::audit::{RunAudit, chained};
use crate::journal::chain::Chain;
use crate::journal::file::JOURNAL_FILE;
use crate::journal::head::{HEAD_FILE, HEAD_SIGNATURE_FILE, Head, Signed};
use crate::journal::ledger::LedgerContent;
use crate::journal::reader::{self, PLAN_FILE};
use crate::journal::signature::{self, AllowedSigners, Signer};
use crate::plan::BoundPlan;
use crate::state::RunState;

/// What is read of a bundle at most; a larger one is refused as hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all members together.
    pub total_bytes: u64,
    /// Bytes of one member.
    pub member_bytes: u64,
    /// Number of members.
    pub members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { total_bytes: 4 << 30, member_bytes: 512 << 20, members: 100_000 }
    }
}

/// The largest window a decompressor may be asked to keep, as a power of two.
const WINDOW_LOG: u32 = 27;

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The member it concerns; absent for the bundle as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The fact.
    pub message: String,
}

/// What the verification of a bundle found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// What the bundle claims; absent when that cannot be read.
    pub manifest: Option<Manifest>,
    /// Whether the manifest is signed.
    pub signed: Signed,
    /// Whether the head of the run is signed.
    pub head_signed: Signed,
    /// What does not hold.
    pub faults: Vec<Fault>,
}

impl Verified {
    /// Whether everything holds.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, member: Option<&str>, message: impl Into<String>) {
        self.faults.push(Fault { member: member.map(str::to_owned), message: message.into() });
    }
}

/// Verifies a bundle. With `signers`, a bundle that none of them signed does not hold.
#[must_use]
pub fn verify(input: impl BufRead, signers: Option<&AllowedSigners>, limits: &Limits) -> Verified {
    let mut verified = Verified { manifest: None, signed: Signed::No, head_signed: Signed::No, faults: Vec::new() };
    let mut contents = Contents::default();
    if let Err(error) = contents.read(input, limits) {
        verified.fault(None, format!("the bundle cannot be read: {error}"));
        return verified;
    }
    let Some(manifest) = contents.manifest(&mut verified) else { return verified };
    contents.hold_members(&manifest, &mut verified);
    let nobody = AllowedSigners::default();
    let known = signers.unwrap_or(&nobody);
    verified.signed = contents.signature((MANIFEST, MANIFEST_SIGNATURE), known, &mut verified);
    verified.head_signed = contents.signature((HEAD_FILE, HEAD_SIGNATURE_FILE), known, &mut verified);
    contents.hold_run(&manifest, &mut verified);
    if signers.is_some() && !matches!(verified.signed, Signed::By { .. }) {
        verified.fault(Some(MANIFEST_SIGNATURE), "nobody among the allowed signers signed the bundle");
    }
    verified.manifest = Some(manifest);
    verified
}

/// The members as they were read.
#[derive(Default)]
struct Contents {
    folder: String,
    seconds: u64,
    found: BTreeMap<String, Member>,
    /// Those that are looked into.
    kept: BTreeMap<String, Vec<u8>>,
}

/// Feeds a digest, and keeps the bytes of members that are looked into.
struct Tee {
    hasher: Hasher,
    kept: Option<Vec<u8>>,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Everything else is covered by its digest alone, and a hostile bundle is not kept in memory.
fn is_looked_into(name: &str) -> bool {
    let own = [MANIFEST, MANIFEST_SIGNATURE, HEAD_FILE, HEAD_SIGNATURE_FILE, PLAN_FILE, JOURNAL_FILE, LEDGER];
    let is_later_plan = name.strip_prefix("plan-").is_some_and(|rest| rest.ends_with(".json"));
    own.contains(&name) || document::NAMES.contains(&name) || is_later_plan
}

impl Contents {
    fn read(&mut self, input: impl BufRead, limits: &Limits) -> io::Result<()> {
        let mut zstd = zstd::Decoder::with_buffer(input)?.single_frame();
        zstd.window_log_max(WINDOW_LOG)?;
        let mut tar = Reader::new(&mut zstd);
        let (mut total, mut last) = (0_u64, String::new());
        while let Next::Member(path, size) = tar.next()? {
            total = total.saturating_add(size);
            if size > limits.member_bytes || total > limits.total_bytes || self.found.len() >= limits.members {
                return Err(refused(format!("it is larger than any bundle should be, at `{path}`")));
            }
            let (folder, name) = path.split_once('/').ok_or_else(|| refused(format!("`{path}` lies in no folder")))?;
            if self.found.is_empty() {
                folder.clone_into(&mut self.folder);
            }
            let in_order = self.found.is_empty() || position(&last) < position(name);
            if folder != self.folder || !in_order {
                return Err(refused(format!("`{path}` does not stand where it belongs")));
            }
            let mut tee = Tee { hasher: Hasher::default(), kept: is_looked_into(name).then(Vec::new) };
            tar.content(size, &mut tee)?;
            self.found.insert(name.to_owned(), Member { size_bytes: size, sha256: tee.hasher.finish() });
            self.kept.extend(tee.kept.map(|bytes| (name.to_owned(), bytes)));
            name.clone_into(&mut last);
        }
        self.seconds = tar.seconds();
        match zstd.finish().fill_buf()? {
            [] => Ok(()),
            _ => Err(refused("bytes follow its end".to_owned())),
        }
    }

    fn manifest(&self, verified: &mut Verified) -> Option<Manifest> {
        let Some(bytes) = self.kept.get(MANIFEST) else {
            verified.fault(Some(MANIFEST), "it is missing");
            return None;
        };
        let manifest: Manifest = match serde_json::from_slice(bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                verified.fault(Some(MANIFEST), format!("it cannot be read: {error}"));
                return None;
            }
        };
        if manifest.format != FORMAT {
            let message = format!("it has format {}; this version reads format {FORMAT}", manifest.format);
            verified.fault(Some(MANIFEST), message);
            return None;
        }
        if manifest.text().ok().as_ref() != Some(bytes) {
            verified.fault(Some(MANIFEST), "it is not written as `runbook evidence` writes it");
        }
        Some(manifest)
    }

    /// Every member is named, every named one is there, and each has the digest it is named with.
    fn hold_members(&self, manifest: &Manifest, verified: &mut Verified) {
        if self.folder != format!("evidence-{}", manifest.run) {
            verified.fault(None, format!("the folder `{}` is not that of run `{}`", self.folder, manifest.run));
        }
        if u64::try_from(manifest.at.as_second()).ok() != Some(self.seconds) {
            verified.fault(None, "its members do not have the time of the run's last event");
        }
        let names: BTreeSet<&String> = self.found.keys().chain(manifest.members.keys()).collect();
        for name in names.into_iter().filter(|name| ![MANIFEST, MANIFEST_SIGNATURE].contains(&name.as_str())) {
            match (self.found.get(name), manifest.members.get(name)) {
                (Some(found), Some(named)) if found == named => {}
                (Some(_), Some(_)) => verified.fault(Some(name), "it was changed: its digest is not the one named"),
                (Some(_), None) => verified.fault(Some(name), "it was added: the manifest does not name it"),
                (None, _) => verified.fault(Some(name), "it is missing: the manifest names it"),
            }
        }
    }

    fn signature(&self, (text, name): (&str, &str), signers: &AllowedSigners, verified: &mut Verified) -> Signed {
        let (Some(text), Some(signature)) = (self.kept.get(text), self.kept.get(name)) else { return Signed::No };
        match signature::verify(text, &String::from_utf8_lossy(signature), signers) {
            Ok(Signer::Known { principal }) => Signed::By { principal },
            Ok(Signer::Unknown { fingerprint }) => Signed::UnknownKey { fingerprint },
            Err(what) => {
                verified.fault(Some(name), what);
                Signed::Broken
            }
        }
    }

    /// The journal holds against the plan, and everything else against the journal.
    fn hold_run(&self, manifest: &Manifest, verified: &mut Verified) {
        let (Some(plan_bytes), Some(journal)) = (self.kept.get(PLAN_FILE), self.kept.get(JOURNAL_FILE)) else {
            return verified.fault(None, format!("`{PLAN_FILE}` or `{JOURNAL_FILE}` is missing"));
        };
        let plan: BoundPlan = match serde_json::from_slice(plan_bytes) {
            Ok(plan) => plan,
            Err(error) => return verified.fault(Some(PLAN_FILE), format!("it cannot be read: {error}")),
        };
        let digest = Digest::of(plan_bytes);
        let history = match reader::scan(journal, Chain::start(plan.run.clone(), digest)) {
            Ok(history) => history,
            Err(error) => return verified.fault(Some(JOURNAL_FILE), chained(&error)),
        };
        let state = match RunState::fold(&history.events) {
            Ok(state) => state,
            Err(error) => return verified.fault(Some(JOURNAL_FILE), error.to_string()),
        };
        let mut found = RunAudit::empty(plan.run.clone());
        found.plan = Some(digest);
        found.events = history.events.len() as u64;
        found.head = history.events.last().map(|event| event.hash);
        found.outcome = state.finished.as_ref().map(|(outcome, ..)| *outcome);
        hold_claims(manifest, &found, verified);
        self.hold_ledger(&found, verified);
        self.hold_head(&found, verified);
        let Some(plan) = self.in_force(plan, &history.events, verified) else { return };
        self.hold_plans(&plan, &history.events, verified);
        self.hold_documents((manifest, &plan), &history.events, &state, verified);
    }

    fn hold_ledger(&self, found: &RunAudit, verified: &mut Verified) {
        let bytes = self.kept.get(LEDGER).map(Vec::as_slice).unwrap_or_default();
        let content = LedgerContent::scan(bytes);
        // Lines of other runs lie between these, so only their own hashes can be held.
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if crate::base::seal::check_hash(line.strip_suffix(b"\n").unwrap_or(line)).is_err() {
                verified.fault(Some(LEDGER), "a line does not have the hash it names");
            }
        }
        match content.started(&found.run) {
            Some(plan) if Some(plan) == found.plan => {}
            Some(_) => verified.fault(Some(LEDGER), format!("it anchors another `{PLAN_FILE}`")),
            None => verified.fault(Some(LEDGER), "it does not anchor the start of the run"),
        }
        match (content.finished(&found.run), found.outcome) {
            (Some((seq, head)), Some(_)) if (seq.0, Some(head)) == (found.events, found.head) => {}
            (Some(_), _) => verified.fault(Some(LEDGER), "it anchors another end of the run"),
            (None, Some(_)) => verified.fault(Some(LEDGER), "it does not anchor the end of the run"),
            (None, None) => {}
        }
    }

    /// The plan that the run followed at its end: the first one, or the last that the journal put in its place.
    fn in_force(&self, first: BoundPlan, events: &[Event], verified: &mut Verified) -> Option<BoundPlan> {
        let named = |event: &Event| match &event.kind {
            EventKind::PlanAmended { file, .. } => Some(file.clone()),
            _ => None,
        };
        let Some(file) = events.iter().rev().find_map(named) else { return Some(first) };
        let later = self.kept.get(&file).and_then(|bytes| serde_json::from_slice(bytes).ok());
        if later.is_none() {
            verified.fault(Some(&file), "the plan that the journal put in force is missing or cannot be read");
        }
        later
    }

    fn hold_head(&self, found: &RunAudit, verified: &mut Verified) {
        let Some(bytes) = self.kept.get(HEAD_FILE) else { return };
        match serde_json::from_slice::<Head>(bytes) {
            Ok(head) => head.contradictions(found).into_iter().for_each(|what| verified.fault(Some(HEAD_FILE), what)),
            Err(error) => verified.fault(Some(HEAD_FILE), format!("it cannot be read: {error}")),
        }
    }

    /// What was read is what was planned, and blobs and later plans are what the journal names.
    fn hold_plans(&self, plan: &BoundPlan, events: &[Event], verified: &mut Verified) {
        for (at, source) in plan.sources.iter().enumerate() {
            let prefix = format!("definition/{at:02}-");
            let member = self.found.iter().find(|(name, _)| name.starts_with(&prefix));
            if member.map(|(_, member)| member.sha256) != Some(Digest::of(source.text.as_bytes())) {
                verified.fault(Some(&prefix), format!("it is not `{}` as the plan froze it", source.name));
            }
        }
        for event in events {
            let EventKind::PlanAmended { plan, file, .. } = &event.kind else { continue };
            if self.found.get(file).map(|member| member.sha256) != Some(*plan) {
                verified.fault(Some(file), format!("it is not the plan that event {} put in force", event.seq));
            }
        }
        for (name, member) in &self.found {
            let named = name.strip_prefix("blobs/").and_then(|name| name.parse::<Digest>().ok());
            if named.is_some_and(|named| named != member.sha256) {
                verified.fault(Some(name), "it has other content than its name says");
            }
        }
    }

    /// The derived documents say what the journal says. Another version may derive more or less.
    fn hold_documents(
        &self,
        (manifest, plan): (&Manifest, &BoundPlan),
        events: &[Event],
        state: &RunState,
        verified: &mut Verified,
    ) {
        if events.last().map(|last| last.at) != Some(manifest.at) || manifest.name != plan.name {
            verified.fault(Some(MANIFEST), "it claims another time or name than the journal has");
        }
        if manifest.program != env!("CARGO_PKG_VERSION") {
            let versions = self.kept.get("versions.json").and_then(|text| serde_json::from_slice::<Value>(text).ok());
            if versions.is_none_or(|versions| versions["bundled_by"] != manifest.program.as_str()) {
                verified.fault(Some(MANIFEST), "it claims another program than `versions.json` names");
            }
            return;
        }
        for (name, value) in document::derive(plan, events, state) {
            let told = self.kept.get(name).map(Vec::as_slice).unwrap_or_default();
            if told != format!("{value:#}\n").as_bytes() {
                verified.fault(Some(name), "it says otherwise than the journal");
            }
        }
    }
}

fn hold_claims(manifest: &Manifest, found: &RunAudit, verified: &mut Verified) {
    let mut hold = |fits: bool, what: &str| {
        if !fits {
            verified.fault(Some(MANIFEST), format!("it claims another {what} than the journal has"));
        }
    };
    hold(manifest.run == found.run, "run");
    hold(Some(manifest.plan) == found.plan, "plan");
    hold((manifest.seq.0, Some(manifest.head)) == (found.events, found.head), "last event");
    hold(manifest.outcome == found.outcome && manifest.finished == found.outcome.is_some(), "outcome");
}

/// Members stand in the order of their names, the manifest and its signature last.
fn position(name: &str) -> (u8, &str) {
    let last = match name {
        MANIFEST => 1,
        MANIFEST_SIGNATURE => 2,
        _ => 0,
    };
    (last, name)
}

fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
