//! WAL that another program archived, named on the command line.

use std::sync::Arc;

use super::Failure;
use super::site::Site;
use crate::action::Secrets;
use crate::wal::ForeignFolder;
use crate::wal::outlook::Recoverable;

/// Where another program archived WAL.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WalLocationArgs {
    /// Also read the WAL that another program archived in a folder of a store, plain or packed; it is unproven
    #[arg(long, value_name = "STORE[/FOLDER]")]
    pub wal_location: Option<String>,
}

impl WalLocationArgs {
    /// Has a database's archive read together with the folder; without one nothing changes.
    ///
    /// # Errors
    /// Fails when there is no such store (exit 2).
    pub fn beside(&self, found: Recoverable, site: &Site) -> Result<Recoverable, Failure> {
        let Some((store, folder)) = self.parts() else { return Ok(found) };
        let known = site.inventory.stores.contains_key(store);
        let help = "write --wal-location STORE/FOLDER, with a store of the inventory";
        let lying = site.read_store(store).map_err(|failure| if known { failure } else { failure.help(help) })?;
        let keys = (site.store_entry(store)?.encryption.as_ref(), Arc::clone(&site.vault) as Arc<dyn Secrets>);
        Ok(found.beside(ForeignFolder::new(lying, folder, keys)))
    }

    /// The store and the folder inside it.
    fn parts(&self) -> Option<(&str, &str)> {
        self.wal_location.as_deref().map(|text| text.split_once('/').unwrap_or((text, "")))
    }

    /// The argument of `postgres.recover` that reads the same place; nothing without one.
    pub fn as_argument(&self) -> Option<String> {
        self.parts().map(|(store, folder)| format!("wal_location: {{ store: {store}, prefix: '{folder}' }}"))
    }

    /// The parameters of the shipped recoveries that read the same place; none without one.
    pub fn as_params(&self) -> Vec<String> {
        let Some((store, folder)) = self.parts() else { return Vec::new() };
        let folder = (!folder.is_empty()).then(|| format!("wal_folder={folder}"));
        std::iter::once(format!("wal_store={store}")).chain(folder).collect()
    }

    /// What is said of everything that is read from there; nothing without one.
    pub fn caution(&self) -> Option<String> {
        let place = self.wal_location.as_ref()?;
        Some(format!(
            "the WAL in `{place}` is unproven: another program stored it without digests; where it is read, each file is \
             held against its own header and checksums"
        ))
    }
}
