//! `runbook backups init`: makes the folders of stores stores, once, so that an unmounted disk is never taken for an empty one.

use std::error::Error;
use std::io::Cursor;

use serde::Serialize;

use super::open_store::{OpenStore, Shelves, Stores};
use crate::action::PutOptions;
use crate::actions::postgres::cluster::enclosed;
use crate::cli::{Exit, Failure, attest, document, wiring};
use crate::host::local_files;

/// Arguments of `backups init`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups init                         all stores of the inventory\n  runbook backups init --store primary\n\nA folder of this machine is marked as a store, and made where its parent is there: mount its disk first. A folder behind `ssh`\nbecomes one by an object that is removed again; a bucket only has to answer. What is a store already stays as it is, and a store with `read_only: true` is left alone.\nArchiving by the server's own user makes its stores by itself (`runbook run setup-archiving`).\nThe exit code is 10 when a store cannot be made, gives no answer, or lies in the data of a database."
)]
pub struct Args {
    #[command(flatten)]
    stores: Stores,
    /// Also one that held backups when it was last looked into, and is empty on purpose
    #[arg(long)]
    anew: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An object that is removed again.
const FIRST: &str = "runbook-init";

/// What became of one store.
#[derive(Debug, Serialize)]
struct Made {
    store: String,
    url: String,
    #[serde(flatten)]
    state: State,
}

#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    /// It was made one now.
    Made,
    /// It answers as one.
    Ready,
    /// Nothing is written there.
    ReadOnly,
    /// It is none.
    Failed { why: String },
    /// It would be lost with the data that it is to bring back.
    InData { why: String, help: String },
}

/// Makes the stores.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let shelves = args.stores.open_stores(args.json)?;
    let made = wiring::block_on(async {
        let mut made = Vec::new();
        for open_store in &shelves.open_stores {
            let state = match ready(&shelves, open_store, args.anew).await {
                Ok(state) => state,
                Err(error) => State::Failed { why: attest::chain(&*error) },
            };
            made.push(Made { store: open_store.name.clone(), url: open_store.entry.url.clone(), state });
        }
        made
    })?;
    let failed = made.iter().any(|one| matches!(one.state, State::Failed { .. } | State::InData { .. }));
    if args.json {
        document::write_json(&made)?;
    } else {
        made.iter().for_each(say);
    }
    Ok(if failed { Exit::Failed } else { Exit::Success })
}

/// Makes one, where it is none.
async fn ready(shelves: &Shelves, open_store: &OpenStore, anew: bool) -> Result<State, Box<dyn Error>> {
    if open_store.entry.read_only {
        return Ok(State::ReadOnly);
    }
    let store = (open_store.name.as_str(), &open_store.entry);
    if let Some(fact) = enclosed::around(store, &shelves.site.inventory, local_files().as_ref()) {
        return Ok(State::InData { why: fact.what, help: fact.help });
    }
    let opening = shelves.site.opening(&open_store.name, &open_store.entry);
    match opening.open_read()?.browse("").await {
        Ok(_) => return Ok(State::Ready),
        Err(error) if !error.is_unborn() => return Err(error.into()),
        Err(_) if !anew && !open_store.index.is_empty() => {
            return Err("it held backups when it was last looked into: mount its disk, or say `--anew`".into());
        }
        Err(_) => opening.initialize()?,
    }
    let store = opening.open()?;
    if store.browse("").await.is_err() {
        // A folder of another machine becomes a store with the first object.
        let key = FIRST.parse()?;
        store.put(&key, Box::new(Cursor::new(&b""[..])), PutOptions::default()).await?;
        if let Err(error) = store.delete(&key).await {
            tell!("warning: `{FIRST}` stays in `{}`: {}", open_store.name, attest::chain(&error));
        }
    }
    Ok(State::Made)
}

fn say(made: &Made) {
    let Made { store, url, state } = made;
    match state {
        State::Made => out!("`{store}` ({url}) is a store now"),
        State::Ready => out!("`{store}` ({url}) is there"),
        State::ReadOnly => out!("`{store}` ({url}) is read-only here: nothing was looked at"),
        State::Failed { why } => {
            out!("`{store}` ({url}) is no store: {why}");
            tell!("  help: mount its disk, or make the folder that it lies in; a bucket is made by its owner");
        }
        State::InData { why, help } => {
            out!("`{store}` ({url}) cannot be used: {why}");
            tell!("  help: {help}");
        }
    }
}
