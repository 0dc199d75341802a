//! The backups that a search chooses from: those of its store, and other stores' copies of what is not whole there.

use std::sync::Arc;

use super::find::FindParams;
use super::place::Place;
use super::vouched::vouched;
use crate::action::{ActionError, ReadStore, Surroundings};
use crate::actions::store::catalog_failed;
use crate::catalog::{self, Backup, BackupList, CatalogError, Query};

/// What to do about newer backups that were passed over.
pub(super) const PASSED_OVER: &str = "bring their objects back if the newest state counts, or name one with `id`";

/// What there is to choose from.
pub(super) struct Candidates {
    prefix: String,
    /// The store itself.
    own: Arc<dyn ReadStore>,
    /// The other stores that the same backups go to.
    pub(super) copies: Vec<Arc<dyn ReadStore>>,
    /// Every backup.
    pub(super) list: BackupList,
}

/// A backup that its store has whole.
pub(super) struct Found {
    /// The backup.
    pub(super) backup: Backup,
    /// The store it lies in.
    pub(super) store: Arc<dyn ReadStore>,
    /// Why it is another store's copy, where it is.
    pub(super) elsewhere: Option<String>,
    /// Which newer ones are passed over: never without saying so.
    pub(super) newer: Option<String>,
}

impl FindParams {
    /// The other stores whose copies may stand in: nobody has named a store.
    pub(super) fn backup_destinations<'a>(
        &self,
        place: &'a Place,
        inventory: &'a crate::language::inventory::Inventory,
    ) -> impl Iterator<Item = &'a str> + use<'a> {
        let any = self.place.store.is_none() && self.location.is_none();
        place.backup_destinations(inventory).filter(move |_| any)
    }
}

impl Candidates {
    /// Lists them. A further store that cannot be opened can stand in for nothing.
    ///
    /// # Errors
    /// Fails when the store gives no answer.
    pub(super) async fn of(
        params: &FindParams,
        place: &Place,
        about: &Surroundings,
        open: impl Fn(&str) -> Result<Arc<dyn ReadStore>, ActionError>,
    ) -> Result<Self, ActionError> {
        let own = open(&place.store)?;
        let backup_destinations = params.backup_destinations(place, &about.inventory);
        let copies: Vec<Arc<dyn ReadStore>> = backup_destinations.filter_map(|name| open(name).ok()).collect();
        let list = {
            let trusted = vouched(&*own, &about.inventory)?;
            let others = copies.iter().map(|copy| vouched(&**copy, &about.inventory));
            let others = others.collect::<Result<Vec<_>, _>>()?;
            let others: Vec<&dyn ReadStore> = others.iter().map(|other| other as &dyn ReadStore).collect();
            catalog::list_whole(&trusted, &place.prefix, &others).await.map_err(catalog_failed)?
        };
        Ok(Self { prefix: place.prefix.clone(), own, copies, list })
    }

    /// Finds the backup and makes sure that its store has all of it.
    ///
    /// # Errors
    /// Fails when none fits, when the one that does is not whole, and when a store gives no answer.
    pub(super) async fn find(&self, query: &Query) -> Result<Found, CatalogError> {
        let (backup, newer) = catalog::find_among(self.list.clone(), &self.prefix, query)?;
        let other = self.copies.iter().find(|copy| copy.name() == backup.store);
        let store = Arc::clone(other.unwrap_or(&self.own));
        let missing = backup.missing_objects(&*store).await?;
        if !missing.is_empty() {
            let what = format!("these objects are missing or have another size: {}", missing.join(", "));
            return Err(CatalogError::Damaged { key: backup.place().folder(), what });
        }
        let newer = (!newer.is_empty()).then(|| {
            format!("damaged or not whole, newer or of unknown age, and passed over: `{}`", newer.join("`, `"))
        });
        let elsewhere = other.map(|copy| {
            let (id, own) = (&backup.manifest.id, self.own.name());
            format!(
                "backup `{id}` is damaged or not whole in store `{own}`: its copy in store `{}` is taken",
                copy.name()
            )
        });
        Ok(Found { backup, store, elsewhere, newer })
    }
}
