//! The page that a bundle explains itself by, for a reader without this program.

use super::manifest::Manifest;

/// Writes the page. It names no digest, so that it can be a member like any other.
pub(super) fn readme(manifest: &Manifest) -> String {
    let (run, name) = (&manifest.run, &manifest.name);
    let state = match manifest.finished {
        true => "This run has ended.",
        false => "UNFINISHED: this run had not ended when the bundle was made.",
    };
    format!(
        "EVIDENCE OF RUN {run} ({name})
{state}

manifest.json    the SHA-256 and size of every other member, and what the bundle claims
manifest.json.sig, head.json.sig   signatures (SSHSIG, namespace `runbook`), when a key was configured
plan.json        what was decided before the first step; secrets stand as references, never as values
definition/      the files the plan was made of, as they were read
journal.jsonl    what happened: one event a line, each with the hash of the line before it
attempts/        what the programs of each attempt wrote: first and last part, secrets masked
blobs/           contents that events name by their SHA-256
ledger.jsonl     the lines of the machine's ledger that anchor this run's start and end
verdicts.json    outcome, and the measured figures against the objectives
people.json      who was asked, who answered what and from where, what operators did, exceptions
artifacts.json   digests that steps reported; versions.json: programs and tools; controls.json: evidence tags
report.html      the same for reading; nothing is proven by it

Verify everything, offline:

  runbook evidence verify BUNDLE --allowed-signers FILE

Verify by hand, with common tools:

  zstd -d < BUNDLE | tar -x && cd evidence-{run}

  # every member is the one that the manifest names
  jq -r '.members | to_entries[] | \"\\(.value.sha256)  \\(.key)\"' manifest.json | sha256sum --check --quiet

  # the manifest is the one that was signed
  ssh-keygen -Y verify -f ALLOWED_SIGNERS -I NAME -n runbook -s manifest.json.sig < manifest.json

  # no line of the journal was changed, removed, added or moved
  prev=$(sha256sum < plan.json | cut -c1-64); n=0
  while IFS= read -r line; do
    n=$((n + 1)); body=${{line%,\\\"hash\\\":\\\"*}}; hash=${{line##*,\\\"hash\\\":\\\"}}; hash=${{hash%\\\"\\}}}}
    [ \"$(printf '%s}}' \"$body\" | sha256sum | cut -c1-64)\" = \"$hash\" ] || echo \"line $n was changed\"
    case $line in *\"\\\"prev\\\":\\\"$prev\\\"\"*) ;; *) echo \"line $n does not follow line $((n - 1))\" ;; esac
    prev=$hash
  done < journal.jsonl; echo \"$n lines, head $prev\"

The head printed must be `head` in manifest.json, and in the `finished` line of ledger.jsonl.
"
    )
}
