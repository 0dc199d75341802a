//! `runbook cost`: what the stores hold by storage class, what that costs a month, what it will be, and what a
//! restore costs and takes.

mod place;
mod print;
mod survey;
mod warning;

use std::path::{Path, PathBuf};

use serde_json::json;

use super::backups::open_store::{Shelves, Stores};
use super::{Exit, Failure, document, wiring};
use crate::base::clock;
use crate::catalog::cost::PriceTable;
use crate::catalog::retention::Policy;
use place::Place;
use survey::View;

/// Days of a month, on average.
const MONTH_DAYS: f64 = 30.44;

/// Arguments of `cost`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook cost                               every store of the inventory, now and in 12 months\n  runbook cost --store offsite --months 36\n  runbook cost --prices prices.yaml          with your own: other regions, providers, discounts\n  runbook cost --json | jq '.stores[] | {store, month: .now.month}'\n\nAn estimate, no bill. In the outlook backups come as often and as large as they came, while\n`retention` and the bucket's lifecycle rules work on. What has no price shows bytes and no amount.\n`runbook schema prices` prints the schema of a price table. Only lists, settings and manifests are read."
)]
pub struct Args {
    #[command(flatten)]
    stores: Stores,
    /// Prices to reckon with instead of the table that comes with the program (YAML or JSON)
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// How many months are looked ahead
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=120))]
    months: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks at every store and says what it costs.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let prices = prices(args.prices.as_deref())?;
    let open_stores = args.stores.open_stores(args.json)?;
    let policy = Policy::of(&open_stores.site.inventory);
    let found = open_stores.list()?;
    let view = View { prices: &prices, policy: policy.as_ref(), days: days(args.months), now: clock::now() };
    let mut places: Vec<Place> = Vec::new();
    let mut unread = found.unreached.clone();
    for (name, list) in found.lists.iter() {
        let place = look(&open_stores, name, list, view)?;
        match place {
            Ok(place) => places.push(place),
            Err(why) => unread.push(super::backups::open_store::Unreached { store: name.clone(), why }),
        }
    }
    if args.json {
        let stores: Vec<_> = places.iter().map(|place| place.document(&prices)).collect();
        document::write_json(&json!({
            "currency": prices.currency,
            "months": args.months,
            "stores": stores,
            "unreached": unread,
        }))?;
    } else {
        print::people(&places, &prices, args.months);
    }
    let found = super::backups::open_store::Found { unreached: unread, ..Default::default() };
    Ok(found.finish(Exit::Success))
}

/// Looks at one store; why not, when it gave no answer.
fn look(
    open_stores: &Shelves,
    name: &str,
    list: &crate::catalog::BackupList,
    view: View<'_>,
) -> Result<Result<Place, String>, Failure> {
    let open_store = open_stores.open_store(name)?;
    let reader = open_stores.reader(open_store)?;
    wiring::block_on(async { survey::look((name, &open_store.entry), &*reader, list, view).await })
}

fn prices(path: Option<&Path>) -> Result<PriceTable, Failure> {
    let Some(path) = path else {
        return PriceTable::own().map_err(|error| Failure::new(Exit::Bug, error.to_string()));
    };
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::Usage, format!("the prices in `{shown}` cannot be read")).because(&error)
    })?;
    PriceTable::parse(&text).map_err(|error| {
        Failure::new(Exit::Invalid, format!("`{shown}` is no price table"))
            .because(&error)
            .help("`runbook schema prices` says what it holds; docs/cost.md has an example")
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 120 months")]
fn days(months: u16) -> u32 {
    (f64::from(months) * MONTH_DAYS).round() as u32
}
