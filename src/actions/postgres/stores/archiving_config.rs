//! Whether a server archives as the inventory says now, by its own configuration: that was written once, and entries change.

use crate::action::Secrets;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::language::inventory::Inventory;
use crate::wal::{Config, Invocation};

/// Says under which other prefix, and for which other keys, a server archives than the inventory says, each with advice. Nothing
/// where another program archives, and where its configuration cannot be read from here.
pub(crate) fn otherwise(
    cluster: &Cluster,
    (inventory, secrets): (&Inventory, &dyn Secrets),
    command: &str,
) -> Vec<(String, String)> {
    let Some(invocation) = Invocation::of(command).filter(|_| !cluster.is_scratch()) else { return Vec::new() };
    let Ok(config) = Config::of_server(&cluster.entry, &invocation.config) else { return Vec::new() };
    let (name, found) = (&cluster.name, config.otherwise(&cluster.name, (inventory, secrets)));
    let anew = format!("`runbook run setup-archiving -p database={name}`");
    let prefix = found.prefix.map(|prefix| {
        let fact = format!(
            "the server archives under the prefix `{prefix}`, not under that of `{name}`: no recovery looks there"
        );
        (fact, format!("if the entry was renamed, put `prefix: {prefix}` into it; else {anew}"))
    });
    let keys = found.keys.into_iter().map(|fact| (fact, format!("{anew} has it use the keys of the inventory")));
    prefix.into_iter().chain(keys).collect()
}

/// Whether a server archives under another prefix: what it archives never arrives where the inventory looks for it.
pub(crate) fn is_elsewhere(cluster: &Cluster, inventory: &Inventory, command: &str) -> bool {
    let invocation = Invocation::of(command).filter(|_| !cluster.is_scratch());
    let config = invocation.and_then(|invocation| Config::of_server(&cluster.entry, &invocation.config).ok());
    config.is_some_and(|config| config.elsewhere(&cluster.name, inventory).is_some())
}
