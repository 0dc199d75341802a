//! `runbook backups import`.

mod find;
mod show;

use std::path::Path;

use self::find::{Found, find};
use super::open_store::of_catalog;
use crate::action::{ObjectKey, Secrets, Store};
use crate::actions::backup::foreign::{Foreign, ForeignWal, LeftOut, Reader, WalFolder};
use crate::catalog;
use crate::cli::args::InventoryArgs;
use crate::cli::exit::told;
use crate::cli::site::Site;
use crate::cli::{Exit, Failure, wiring};
use crate::report::mask_text;
use crate::transfer::Packing;
use crate::wal::Pushed;

/// Arguments of `backups import`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups import offsite prod/daily --source orders\n  runbook backups import offsite prod/daily --source orders --write\n  runbook backups import offsite postgres --into orders --write    folders of pg_basebackup\n  runbook backups import offsite wal --into orders --write         WAL that `cp` or `aws s3 cp` archived\n\nRecognises dated dumps (`orders_20260128_143002.sql.gz`, times in UTC), folders of `pg_basebackup --format=tar` with their\n`backup_manifest`, and WAL; compressed or not, encrypted with the keys of the store's `encryption` and its `earlier`. What is\nnone of these is listed with the reason. Without `--write` it only says what it would do. With it, every byte is read for its\ndigests and a manifest is written below INTO/; no object is moved, renamed or changed. WAL is copied to INTO/wal/, each\nfile judged as `wal push` does: recovery and `wal fetch` read it there. The originals stay.\nCode 10: something could not be imported."
)]
pub struct Args {
    /// The store of the inventory
    store: String,
    /// What the keys begin with
    #[arg(value_parser = prefix)]
    prefix: String,
    /// The prefix of the catalog that gets the manifests and the WAL, as the inventory's database has it; default PREFIX
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    into: Option<String>,
    /// What they are backups of; default what each dump's name has before its time, and INTO for base backups
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Write the manifests, and copy the WAL
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The environment whose store is meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Takes a prefix without the `/` at its end, which completion and people write.
fn prefix(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let key = text.parse::<ObjectKey>();
    key.map(|_| text.to_owned()).map_err(|_| format!("`{text}` cannot begin an object's key"))
}

/// What came of an import.
#[derive(Debug, Default, serde::Serialize)]
struct Done {
    /// The ids of the backups.
    imported: Vec<String>,
    /// WAL files that were copied.
    wal_copied: u64,
    /// WAL files that the archive had already.
    wal_there: u64,
    /// What could not be imported, and why.
    failed: Vec<LeftOut>,
    /// What was not recognised, and why.
    left_out: Vec<LeftOut>,
}

/// Finds what can be imported, and imports it.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let found = wiring::block_on(find(args, &site))??;
    if !args.write {
        return show::plan(args, found);
    }
    let store = site.store(&args.store)?;
    let mut import = Import { args, site: &site, store: &*store, done: Done::default() };
    for foreign in &found.backups {
        import.backup(foreign)?;
    }
    let scratch = wiring::state_root()?;
    for folder in &found.wal {
        import.wal(folder, &scratch)?;
    }
    show::done(args, Done { left_out: found.left_out, ..import.done })
}

struct Import<'a> {
    args: &'a Args,
    site: &'a Site,
    store: &'a dyn Store,
    done: Done,
}

impl Args {
    /// The prefix of the catalog.
    fn into(&self) -> &str {
        self.into.as_deref().unwrap_or(&self.prefix)
    }

    /// What something is a backup of.
    fn source_of<'a>(&'a self, foreign: &'a Foreign) -> &'a str {
        let own = match foreign {
            Foreign::Dump(dump) => &dump.name,
            Foreign::Base(_) => self.into(),
        };
        self.source.as_deref().unwrap_or(own)
    }
}

impl<'a> Import<'a> {
    fn reader(&self) -> Result<Reader<'a>, Failure> {
        let keys = self.site.store_entry(&self.args.store)?.encryption.as_ref();
        Ok(Reader { store: self.store.as_read(), keys, secrets: &*self.site.vault as &dyn Secrets })
    }

    fn backup(&mut self, foreign: &Foreign) -> Result<(), Failure> {
        let (reader, source) = (self.reader()?, self.args.source_of(foreign));
        let done = wiring::block_on(async {
            let described = match foreign {
                Foreign::Dump(dump) => dump.describe(&reader, source).await,
                Foreign::Base(base) => base.describe(&reader, source).await,
            };
            let manifest = described.map_err(|error| told(&error))?;
            catalog::commit(self.store, self.args.into(), manifest).await.map_err(|error| of_catalog(&error))
        })?;
        match done {
            Ok(backup) => {
                tell!("imported `{}` as `{}`", mask_text(foreign.place()), backup.manifest.id);
                self.done.imported.push(backup.manifest.id);
            }
            Err(why) => self.fail(foreign.place(), why),
        }
        Ok(())
    }

    fn wal(&mut self, folder: &WalFolder, scratch: &Path) -> Result<(), Failure> {
        let unready = |why: String| Failure::new(Exit::Failed, format!("WAL cannot be imported: {why}"));
        std::fs::create_dir_all(scratch).map_err(|error| unready(error.to_string()))?;
        let scratch = tempfile::tempdir_in(scratch).map_err(|error| unready(error.to_string()))?;
        let entry = self.site.store_entry(&self.args.store)?;
        let packing = Packing::of(entry, &*self.site.vault).map_err(|error| unready(error.to_string()))?;
        let mut wal = ForeignWal::new(self.reader()?, (self.store, self.args.into()), &packing, scratch.path());
        let (mut copied, mut there) = (0, 0);
        for file in folder.in_order() {
            match wiring::block_on(wal.bring(file))? {
                Ok(Pushed::Stored) => copied += 1,
                Ok(Pushed::WasThere) => there += 1,
                Err(error) => self.fail(file.0.key.as_str(), told(&error)),
            }
        }
        tell!("copied {copied} WAL files of `{}`, {there} were there", mask_text(&folder.folder));
        self.done.wal_copied += copied;
        self.done.wal_there += there;
        Ok(())
    }

    fn fail(&mut self, key: &str, why: String) {
        tell!("left out `{}`: {}", mask_text(key), mask_text(&why));
        self.done.failed.push(LeftOut { key: key.to_owned(), why });
    }
}
