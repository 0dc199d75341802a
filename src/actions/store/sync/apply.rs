//! Carries out a sync's plan: copies first, each proven; deletions last, and only when every copy stands.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frozen;
use super::plan::Plan;
use super::side::{Item, MTIME, Side, key_of};
use crate::action::{ActionError, FileKind, Files, HostError, PlainFacts, PutOptions, RunContext, Store};
use crate::actions::store::arrival::{Arrival, Existing};
use crate::actions::store::body::{copy, on_files};
use crate::actions::store::carry::{Proof, prove, put_known};
use crate::actions::store::crew::each;
use crate::actions::store::passing::{Meter, Passing};
use crate::actions::store::store_failed;
use crate::base::Timestamp;

const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;
/// How many are deleted before it is asked again whether a recovery has begun: that may read a whole listing.
const DELETED_AT_ONCE: usize = 1000;
/// Faults that the error names.
const NAMED: usize = 10;

/// The side that is changed.
pub(super) enum Target {
    Folder { files: Arc<dyn Files>, root: PathBuf },
    Store { store: Arc<dyn Store>, prefix: String },
}

/// Both sides and how they are worked on.
pub(super) struct Work<'a> {
    pub(super) from: Side,
    pub(super) to: Target,
    pub(super) proof: Proof,
    pub(super) parallel: usize,
    pub(super) cx: &'a RunContext,
}

impl Work<'_> {
    /// Copies what the plan says; names that are `last` only when all others are there.
    pub(super) async fn copy(&self, plan: &Plan, last: impl Fn(&str) -> bool) -> Result<(), ActionError> {
        let meter = Meter::new(self.cx, Some(plan.copied_bytes()));
        // What was judged a moment ago comes first: others may write to the target meanwhile.
        let items = plan.replace.iter().chain(&plan.create);
        let (last, first): (Vec<&Item>, Vec<&Item>) = items.partition(|item| last(&item.name));
        for items in [first, last] {
            let total = items.len();
            let done = each(self.parallel, items, |item| self.one(item, &meter)).await;
            judge("copied", total, done.into_iter().filter_map(Result::err).collect())?;
        }
        Ok(())
    }

    /// Deletes what the plan says, each only while it is what was planned.
    pub(super) async fn delete(&self, plan: &Plan) -> Result<(), ActionError> {
        let to = self.to.side();
        for items in plan.delete.chunks(DELETED_AT_ONCE) {
            // Copying may have taken hours, and a recovery may have begun meanwhile.
            if let Some(freeze) = frozen::open(&self.from, &to).await? {
                let fact = format!("{}; what is not deleted yet stays", freeze.fact());
                return Err(ActionError::fatal(fact).help(frozen::help(&freeze)));
            }
            let done = each(self.parallel, items, |item| self.remove(item)).await;
            judge("deleted", plan.delete.len(), done.into_iter().filter_map(Result::err).collect())?;
        }
        Ok(())
    }

    async fn one(&self, item: &Item, meter: &Meter) -> Result<(), ActionError> {
        let facts = self.from.facts(item).await?;
        let own_time = self.from.own_time(item).await?;
        match &self.to {
            Target::Folder { files, root } => self.write_file((files, root), item, (facts, own_time), meter).await?,
            Target::Store { store, prefix } => {
                let key = key_of(prefix, &item.name)?;
                let mut metadata = self.from.metadata(item).await?;
                metadata.insert(MTIME.to_owned(), own_time.to_string());
                let options = PutOptions { metadata, resume: self.cx.attempt.0 > 1, ..PutOptions::default() };
                let body = self.from.open(item).await?;
                let put = put_known((&**store, &key), (body, facts), options, meter).await?;
                prove((&**store, &key), &put, self.proof).await?;
            }
        }
        match self.from.look(&item.name).await? {
            Some(now) if now.stamp == item.stamp => Ok(()),
            Some(_) | None => Err(ActionError::retryable(format!("`{}` changed while it was copied", item.name))),
        }
    }

    async fn write_file(
        &self,
        (files, root): (&Arc<dyn Files>, &PathBuf),
        item: &Item,
        (facts, own_time): (PlainFacts, Timestamp),
        meter: &Meter,
    ) -> Result<(), ActionError> {
        let path = root.join(&item.name);
        let (folder, below) = (path.parent().unwrap_or(root).to_owned(), root.clone());
        on_files(Arc::clone(files), move |files| folders(files, &below, &folder)).await?;
        let (arrival, file) = Arrival::begin(Arc::clone(files), &path, FILE_MODE, Existing::Replace).await?;
        let written = async {
            let mut body = Passing::new(self.from.open(item).await?).expecting(facts).metered(meter);
            let mut into = tokio::fs::File::from_std(file);
            let broken = |error: std::io::Error| {
                ActionError::retryable(format!("`{}` was not copied", item.name)).because(&error)
            };
            copy(&mut body, &mut into).await.map_err(broken)?;
            Ok(facts)
        };
        arrival.modified_at(own_time).end(written.await).await.map(drop)
    }

    async fn remove(&self, item: &Item) -> Result<(), ActionError> {
        let planned = self.to.side().look(&item.name).await?;
        let Some(now) = planned else { return Ok(()) };
        if now.stamp != item.stamp {
            let fact = format!("`{}` changed after the plan was made and was not deleted", item.name);
            return Err(ActionError::retryable(fact));
        }
        match &self.to {
            Target::Folder { files, root } => {
                let path = root.join(&item.name);
                on_files(Arc::clone(files), move |files| files.remove_file(&path)).await
            }
            Target::Store { store, prefix } => store.delete(&key_of(prefix, &item.name)?).await.map_err(store_failed),
        }
    }
}

impl Target {
    /// Its reading half.
    pub(super) fn side(&self) -> Side {
        match self {
            Self::Folder { files, root } => Side::Folder { files: Arc::clone(files) as _, root: root.clone() },
            Self::Store { store, prefix } => Side::Store { store: Arc::clone(store) as _, prefix: prefix.clone() },
        }
    }
}

/// Creates missing folders; a link in their place is refused, for it may lead anywhere.
fn folders(files: &dyn Files, root: &Path, folder: &Path) -> Result<(), HostError> {
    let refused = |path: &Path| HostError::File {
        operation: "write below",
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::NotADirectory, "it is not a folder"),
    };
    if folder != root
        && let Some(parent) = folder.parent()
    {
        folders(files, root, parent)?;
    }
    match files.facts(folder)?.map(|facts| facts.kind) {
        Some(FileKind::Directory) => Ok(()),
        Some(_) => Err(refused(folder)),
        None => files.create_dir(folder, DIR_MODE),
    }
}

fn judge(what: &str, total: usize, failed: Vec<ActionError>) -> Result<(), ActionError> {
    let Some(first) = failed.first() else { return Ok(()) };
    let lines: Vec<String> = failed.iter().take(NAMED).map(ToString::to_string).collect();
    let fact = format!("{} of {total} were not {what}: {}", failed.len(), lines.join("; "));
    let passing = failed.iter().any(|error| error.info().class == crate::event::ErrorClass::Retryable);
    let error = if passing { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
    let help = first.info().help.clone();
    let help = help.unwrap_or_else(|| "run the step again: what is done already is not done again".to_owned());
    Err(error.help(help))
}
