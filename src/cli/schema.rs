//! `runbook schema`: the JSON schemas of runbooks, inventories, reports, dry runs, manifests of backups, erasure ledgers and price tables.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Exit, Failure, proof};
use crate::catalog::cost::price_schema;
use crate::language::{inventory, runbook};
use crate::plan;
use crate::report;

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Editors complete a runbook whose first line is\n  # yaml-language-server: $schema=PATH/runbook.schema.json\n\nExamples:\n  runbook schema >runbook.schema.json\n  runbook schema inventory\n  runbook schema --write schemas"
)]
pub struct Args {
    /// Which schema
    #[arg(value_enum, default_value_t = Kind::Runbook)]
    kind: Kind,
    /// Write all schemas into this folder
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Runbook,
    Inventory,
    Report,
    DryRun,
    Manifest,
    ErasureLedger,
    Prices,
}

/// Prints a schema, or writes all.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let Some(folder) = args.write else {
        out!("{:#}", schema(args.kind));
        return Ok(Exit::Success);
    };
    write_folder(&folder, all().into(), "json")?;
    Ok(Exit::Success)
}

/// All schemas by the names of their files.
pub fn all() -> [(String, String); 7] {
    [
        (Kind::Runbook, "runbook"),
        (Kind::Inventory, "inventory"),
        (Kind::Report, "report"),
        (Kind::DryRun, "dry-run"),
        (Kind::Manifest, "manifest"),
        (Kind::ErasureLedger, "erasure-ledger"),
        (Kind::Prices, "prices"),
    ]
    .map(|(kind, name)| (format!("{name}.schema.json"), format!("{:#}\n", schema(kind))))
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Runbook => plan::schema::runbook(runbook::file_schema().to_value(), &crate::actions::registry()),
        Kind::Inventory => plan::schema::inventory(inventory::file_schema().to_value(), &crate::actions::registry()),
        Kind::Report => report::json::schema(),
        Kind::DryRun => proof::schema(),
        Kind::Manifest => schemars::schema_for!(crate::catalog::Manifest).to_value(),
        Kind::ErasureLedger => schemars::schema_for!(crate::action::SealedErasure).to_value(),
        Kind::Prices => price_schema().to_value(),
    }
}

/// Writes generated files into a folder. Others of the same kind are named and left: they may be anybody's.
pub fn write_folder(folder: &Path, files: Vec<(String, String)>, extension: &str) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| {
        Failure::new(Exit::Usage, format!("cannot write into `{}`", folder.display())).because(error)
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    for entry in std::fs::read_dir(folder).map_err(|error| failed(&error))? {
        let path = entry.map_err(|error| failed(&error))?.path();
        let kept = files.iter().any(|(name, _)| path.file_name().is_some_and(|file| *file == **name));
        if !kept && path.extension().is_some_and(|found| found == extension) {
            tell!("left as it is, not generated: {}", path.display());
        }
    }
    for (name, text) in files {
        #[expect(clippy::disallowed_methods, reason = "generated files can be generated again")]
        std::fs::write(folder.join(name), text).map_err(|error| failed(&error))?;
    }
    Ok(())
}
