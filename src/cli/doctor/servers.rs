//! `runbook doctor --servers`: is the inventory right about the servers that answer, and what have recoveries left beside
//! their data?

use std::path::Path;

use serde_json::json;

use crate::action::{DatabaseRef, Secrets};
use crate::actions::postgres::cluster::enclosed;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::recovery::server_status::{Contradiction, ServerStatus, look};
use crate::cli::exit::told;
use crate::cli::leftover::{self, Remains};
use crate::cli::screen::{Face, paint};
use crate::cli::site::{self, Site};
use crate::cli::{Exit, Failure, document, wiring};
use crate::host::local_files;
use crate::language::inventory::Inventory;
use crate::report::Tone;

/// Holds every entry against its server, and tells what contradicts it. Code 4 when anything does.
pub fn examine(site: &Site, face: Face) -> Result<Exit, Failure> {
    let (host, runs) = (site::machine()?, wiring::existing_runs()?);
    let mut all: Vec<(&String, ServerStatus, Vec<Remains>)> = Vec::new();
    for name in site.inventory.databases.keys() {
        let secrets = site.vault.as_ref() as &dyn Secrets;
        let looked = wiring::block_on(look(name, &site.inventory, (host.as_ref(), secrets)))?;
        let mut standing = looked.unwrap_or_else(|error| ServerStatus { why: told(&error), ..ServerStatus::default() });
        standing.contradictions.extend(enclosed(name, &site.inventory));
        all.push((name, standing, leftover::of(name, &site.inventory, runs.as_ref())));
    }
    match face {
        Face::Json => {
            let told =
                all.iter().map(|(name, standing, left)| json!({ "database": name, "server": standing, "left": left }));
            document::write_json(&told.collect::<Vec<_>>())?;
        }
        Face::People => all.iter().for_each(|(name, standing, left)| {
            print(name, standing);
            left.iter().for_each(|one| out!("{}  {name}: {}", paint(Tone::Quiet, "left   "), one.told()));
        }),
    }
    let right = all.iter().all(|(_, standing, _)| standing.contradictions.is_empty());
    Ok(if right { Exit::Success } else { Exit::Refused })
}

/// A store in the data of a database.
fn enclosed(name: &str, inventory: &Inventory) -> Option<Contradiction> {
    let cluster = Cluster::of(&DatabaseRef(name.to_owned()), inventory, Path::new("/")).ok()?;
    let fact = enclosed::store(&cluster, inventory, local_files().as_ref())?;
    Some(Contradiction { what: fact.what, help: fact.help })
}

fn print(name: &str, standing: &ServerStatus) {
    for wrong in &standing.contradictions {
        out!("{}  {name}: {}", paint(Tone::Bad, "wrong  "), wrong.what);
        out!("         help: {}", wrong.help);
    }
    match (standing.contradictions.is_empty(), standing.answers) {
        (false, _) => {}
        (true, true) => out!("{}  {name}: nothing contradicts its entry", paint(Tone::Good, "right  ")),
        (true, false) => out!("{}  {name}: nobody to ask: {}", paint(Tone::Warn, "unknown"), standing.why),
    }
}
