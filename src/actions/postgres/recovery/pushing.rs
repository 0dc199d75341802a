//! The rescued tail on its way into the archive: into every store that the database's WAL lies in.

use serde_json::json;

use super::rescue::{Rescued, Tail};
use crate::action::{ActionError, Store};
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::old::Old;
use crate::transfer::Packing;
use crate::wal::{Destination, Identity, Missed, WalError, push_everywhere};

/// Pushes what was rescued.
pub(crate) struct Pushing<'a> {
    pub(crate) context: &'a RecoveryContext<'a>,
    pub(crate) marker: &'a Marker,
}

impl Pushing<'_> {
    /// Pushes that tail. Only when the recovery is decided: an old server that is started again after a
    /// refusal goes on writing its last segment, which then could never be archived. As many stores must have each file as
    /// the database's entry says; the others are told.
    ///
    /// # Errors
    /// Fails when too few stores have a file, or one has another in its place; nothing was touched then.
    pub(crate) async fn rescue(&self, tail: &Tail, old: Option<&Old>) -> Result<(), ActionError> {
        if tail.files.is_empty() {
            return Ok(());
        }
        let lacking = self.bring(&tail.files).await?;
        self.tell(tail, old);
        self.tell_lacking(&lacking);
        Ok(())
    }

    /// Stores files in every store that may be written to; gives those that are not in all of them.
    ///
    /// # Errors
    /// Fails as [`Pushing::rescue`].
    pub(crate) async fn bring<'f>(&self, files: &'f [Rescued]) -> Result<Vec<(&'f Rescued, Vec<Missed>)>, ActionError> {
        let context = self.context;
        let mut packed = Vec::new();
        for store in self.writable()? {
            let packing = Packing::of(context.entry(store)?, context.cx.about.secrets.as_ref()).map_err(|error| {
                ActionError::fatal("rescued WAL cannot be packed for the archive; nothing was touched").because(&error)
            })?;
            packed.push((store, packing));
        }
        let (prefix, identity) = (context.prefix, self.identity());
        let to: Vec<Destination<'_>> =
            packed.iter().map(|(store, packing)| Destination { store: *store, prefix, identity, packing }).collect();
        let mut lacking = Vec::new();
        for file in files {
            let at_least = context.cluster.entry.wal_at_least.map_or(to.len(), |count| count.min(to.len()));
            let pushed = push_everywhere(&to, at_least, (&file.path, file.name, &identity)).await;
            let missed = pushed.map_err(|error| unsafe_file(file, &error))?;
            if !missed.is_empty() {
                lacking.push((file, missed));
            }
        }
        Ok(lacking)
    }

    fn identity(&self) -> Identity {
        Identity { system_id: self.marker.system_id, segment_size: Some(self.marker.segment_size) }
    }

    /// The stores that may be written to. Where none may, the database's own refuses in its own words.
    fn writable(&self) -> Result<Vec<&dyn Store>, ActionError> {
        let mut stores: Vec<&dyn Store> = Vec::new();
        for store in self.context.stores() {
            if !self.context.entry(store.as_ref())?.read_only {
                stores.push(store.as_ref());
            }
        }
        if stores.is_empty() {
            stores.push(self.context.store.as_ref());
        }
        Ok(stores)
    }

    fn tell(&self, tail: &Tail, old: Option<&Old>) {
        let Some(old) = old else { return };
        let names: Vec<String> = tail.files.iter().map(|file| file.name.to_string()).collect();
        let from = old.dir.display();
        let message = format!("WAL that was never archived was rescued from `{from}` (files: {})", names.len());
        let up_to = tail.end.map(|end| end.lsn.to_string());
        self.context.cx.reporter.note(message, json!({ "files": names, "up_to": up_to }));
    }

    /// Nothing has to be noted for it: `wal status` and `wal mend` look at what each store holds.
    pub(crate) fn tell_lacking(&self, lacking: &[(&Rescued, Vec<Missed>)]) {
        let Some((_, missed)) = lacking.first() else { return };
        let why: Vec<String> = missed.iter().map(|one| format!("`{}`: {}", one.store, one.why)).collect();
        let message = format!(
            "warning: {} rescued files are not in every store of the WAL ({}); `runbook wal mend {}` copies them",
            lacking.len(),
            why.join("; "),
            self.context.cluster.name
        );
        let files: Vec<String> = lacking.iter().map(|(file, _)| file.name.to_string()).collect();
        self.context.cx.reporter.note(message, json!({ "files": files }));
    }
}

fn unsafe_file(file: &Rescued, error: &WalError) -> ActionError {
    let fact = format!("the rescued `{}` cannot be brought into the archive; nothing was touched", file.name);
    let class = if error.is_passing() { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
    let told = class.because(error);
    if !error.is_too_few() {
        return told;
    }
    told.help(
        "mend the store, or say in the inventory in how many stores a file must be safe (`wal_at_least` of the \
         database's entry)",
    )
}
