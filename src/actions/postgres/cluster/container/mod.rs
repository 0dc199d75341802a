//! Servers in containers: what docker tells of one, where its files lie on this machine, and programs run inside.
//!
//! Everything that a step does to files it does on this machine; everything that the server itself will run, it runs in the
//! container, as the server's user. [`ServerHost`] is the one door: on a server of this machine it changes nothing.

pub(crate) mod by_hand;
mod facts;
mod inquiry;
mod project;
mod server_container;
mod server_host;

use std::path::Path;

pub(crate) use inquiry::data_of;
pub(crate) use project::Project;
pub(crate) use server_host::ServerHost;

use crate::action::ActionError;

/// The refusal of data outside the data directory of a container: its place there is another than here.
pub(crate) fn outside(link: &Path, place: &Path) -> ActionError {
    let fact = format!("`{}` of the data directory leads to `{}` in the container", link.display(), place.display());
    ActionError::fatal(fact).help(
        "tablespaces and WAL outside the data directory are not restored into a container: open the backup beside it \
         (`postgres.side_instance`) and dump from there, or fill the volumes by hand",
    )
}
