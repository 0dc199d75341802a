//! Tells what was seen of a copy whose store the step only reads, so that it is kept there when the run has ended.

use crate::action::{ActionError, RunContext};
use crate::base::clock;
use crate::catalog::Backup;
use crate::catalog::attest::{Level, Sighting, Verdict, Verification};

/// Notes that a copy is damaged, where `error` says so.
pub(in crate::actions) fn noted(error: &ActionError, backup: &Backup, cx: &RunContext) {
    if !error.is_of_damage() {
        return;
    }
    let causes = error.info().causes.iter().map(|cause| format!(": {cause}"));
    let fault: String = std::iter::once(error.to_string()).chain(causes).collect();
    told(backup, failed(vec![fault], backup, cx), cx);
}

/// Notes what a verification says of a copy.
pub(in crate::actions) fn told(backup: &Backup, verification: Verification, cx: &RunContext) {
    let found = match verification.verdict {
        Verdict::Passed => "holds",
        Verdict::Failed => "is damaged",
    };
    let message = format!(
        "backup `{}` in store `{}` {found}: that is kept beside it when the run has ended",
        backup.manifest.id, backup.store
    );
    cx.reporter.note(message, Sighting::of(backup, verification).data());
}

/// A verification that a restore came to by itself: nobody has read the whole.
pub(in crate::actions) fn failed(faults: Vec<String>, backup: &Backup, cx: &RunContext) -> Verification {
    Verification {
        format: 1,
        manifest: backup.digest,
        level: Level::Digests,
        at: clock::now(),
        by: format!("run {}", cx.about.run),
        read_bytes: 0,
        verdict: Verdict::Failed,
        faults,
    }
}
