//! Says what an import would do, or did.

use serde_json::json;

use super::super::list::table;
use super::{Args, Done, Found};
use crate::actions::backup::foreign::{Foreign, LeftOut};
use crate::base::units::ByteSize;
use crate::cli::{Exit, Failure, document};
use crate::report::mask_text;

/// So many left-out objects are named to people; `--json` names all.
const NAMED: usize = 40;

/// Says what would be imported.
pub(super) fn plan(args: &Args, found: Found) -> Result<Exit, Failure> {
    if args.json {
        let backups: Vec<_> = found.backups.iter().map(|one| document_of(args, one)).collect();
        let wal: Vec<_> = found
            .wal
            .iter()
            .map(|one| json!({ "folder": one.folder, "files": one.files.len(), "size_bytes": one.size_bytes() }))
            .collect();
        let all = json!({ "would_import": backups, "would_copy_wal": wal, "left_out": found.left_out });
        document::write_json(&all)?;
        return Ok(Exit::Success);
    }
    if found.backups.is_empty() && found.wal.is_empty() {
        let (prefix, store) = (mask_text(&args.prefix), mask_text(&args.store));
        tell!(
            "nothing below `{prefix}/` in `{store}` is a dated dump, a base backup or WAL that is not in the catalog yet"
        );
        left_out(&found.left_out);
        return Ok(Exit::Success);
    }
    let mut rows = vec![["WHERE", "KIND", "SOURCE", "ENDED", "SIZE"].map(str::to_owned)];
    rows.extend(found.backups.iter().map(|one| {
        let (kind, ended, size) = match one {
            Foreign::Dump(dump) => ("dump", dump.taken_at.to_string(), dump.size_bytes),
            Foreign::Base(base) => ("base", format!("by {}", base.ended_by), base.size_bytes()),
        };
        let size = ByteSize(size).to_string();
        [one.place(), kind, args.source_of(one), ended.as_str(), size.as_str()].map(mask_text)
    }));
    rows.extend(found.wal.iter().map(|one| {
        let (files, size) = (format!("{} files", one.files.len()), ByteSize(one.size_bytes()).to_string());
        [one.folder.as_str(), "wal", args.into(), files.as_str(), size.as_str()].map(mask_text)
    }));
    table(&rows);
    left_out(&found.left_out);
    tell!("nothing was written; `--write` reads them all, writes manifests and copies WAL below `{}/`", args.into());
    Ok(Exit::Success)
}

/// Says what was imported.
pub(super) fn done(args: &Args, done: Done) -> Result<Exit, Failure> {
    match args.json {
        true => document::write_json(&done)?,
        false => left_out(&done.left_out),
    }
    Ok(if done.failed.is_empty() { Exit::Success } else { Exit::Failed })
}

fn document_of(args: &Args, one: &Foreign) -> serde_json::Value {
    let source = args.source_of(one);
    match one {
        Foreign::Dump(dump) => json!({ "key": dump.key.as_str(), "kind": "postgres.dump", "source": source,
            "taken_at": dump.taken_at, "size_bytes": dump.size_bytes }),
        Foreign::Base(base) => json!({ "key": base.folder, "kind": "postgres.base", "source": source,
            "taken_at": base.ended_by, "size_bytes": base.size_bytes() }),
    }
}

fn left_out(all: &[LeftOut]) {
    for one in all.iter().take(NAMED) {
        tell!("left out `{}`: {}", mask_text(&one.key), mask_text(&one.why));
    }
    if all.len() > NAMED {
        tell!("left out {} more; `--json` names them all", all.len() - NAMED);
    }
}
