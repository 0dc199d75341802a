//! `runbook doctor --servers`: is the inventory right about the servers that answer?

use serde_json::json;

use crate::action::Secrets;
use crate::actions::postgres::{Standing, look};
use crate::cli::exit::told;
use crate::cli::screen::{Face, paint};
use crate::cli::site::{self, Site};
use crate::cli::{Exit, Failure, document, wiring};
use crate::report::Tone;

/// Holds every entry against its server, and tells what contradicts it. Code 4 when anything does.
pub fn examine(site: &Site, face: Face) -> Result<Exit, Failure> {
    let host = site::machine()?;
    let mut all: Vec<(&String, Standing)> = Vec::new();
    for name in site.inventory.databases.keys() {
        let secrets = site.vault.as_ref() as &dyn Secrets;
        let looked = wiring::block_on(look(name, &site.inventory, (host.as_ref(), secrets)))?;
        let standing = looked.unwrap_or_else(|error| Standing { why: told(&error), ..Standing::default() });
        all.push((name, standing));
    }
    match face {
        Face::Json => {
            let told = |(name, standing): &(&String, Standing)| json!({ "database": name, "server": standing });
            document::write_json(&all.iter().map(told).collect::<Vec<_>>())?;
        }
        Face::People => all.iter().for_each(|(name, standing)| print(name, standing)),
    }
    let right = all.iter().all(|(_, standing)| standing.contradictions.is_empty());
    Ok(if right { Exit::Success } else { Exit::Refused })
}

fn print(name: &str, standing: &Standing) {
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
