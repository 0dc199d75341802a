//! `runbook backups map`: the intervals of time that can be recovered, with the gaps and their reasons.

mod chart;

use std::path::PathBuf;

use crate::cli::args::InventoryArgs;
use crate::cli::backups::stanza::Stanzas;
use crate::cli::recoverable::{Recoverable, databases};
use crate::cli::site::Site;
use crate::cli::wal_location::WalLocationArgs;
use crate::cli::{Exit, Failure, document, screen, wiring};
use crate::pgformat::Timeline;
use crate::report::window::{BackupForm, Chart, ChartBackup, svg, text};

/// Arguments of `backups map`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups map\n  runbook backups map orders --svg orders.svg\n  runbook backups map orders --json | jq '.[].lanes[].spans[] | select(.state == \"gap\")'\n\nTimes are those of the commits in the WAL, by the primary's clock. Nothing is written but the file of --svg.\n`runbook pitr DATABASE --at TIME` tells how one moment is recovered; `runbook wal verify DATABASE --digests` reads every segment."
)]
pub struct Args {
    /// The database; default: every one that has a store
    database: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    location: WalLocationArgs,
    /// The environment whose stores are meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Draw it into a file; one database only
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows what can be recovered.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let (mut charts, mut exit) = (Vec::new(), Exit::Success);
    for name in databases(&site, args.database.as_deref())? {
        let recoverable = args.location.beside(Recoverable::open(&site, &name)?, &site)?;
        match wiring::block_on(async { chart::charts(recoverable.look().await?).await })? {
            Ok(mut found) => {
                if let Some(chart) = found.first_mut() {
                    theirs(&site, &name, chart);
                }
                charts.extend(found);
            }
            Err(error) => {
                Failure::new(Exit::Failed, format!("what `{name}` has cannot be read")).because(&error).print();
                exit = Exit::Failed;
            }
        }
    }
    args.say(&charts)?;
    Ok(exit)
}

/// Adds the backups that pgBackRest has of the database. Their WAL lies in an archive of its own, which is not drawn.
fn theirs(site: &Site, name: &str, chart: &mut Chart) {
    let stanzas = match Stanzas::of(site, |database| database == name) {
        Ok(stanzas) => stanzas,
        Err(failure) => return chart.notes.push(format!("what pgBackRest has is not known: {}", failure.message)),
    };
    chart
        .notes
        .extend(stanzas.unreached.into_iter().map(|one| format!("`{}` gives no answer: {}", one.store, one.why)));
    for (_, standing) in &stanzas.known {
        let timeline = chart.lanes.last().map_or(Timeline(1), |lane| lane.timeline);
        chart.backups.extend(standing.backups.iter().map(|backup| ChartBackup {
            id: backup.id.clone(),
            form: BackupForm::PgBackRest,
            ended_at: backup.stopped_at,
            timeline: backup.timeline().unwrap_or(timeline),
            fault: backup.fault.clone(),
        }));
        if !standing.backups.is_empty() {
            let count = standing.backups.len();
            chart.notes.push(format!(
                "{count} backups of pgBackRest (stanza `{}`): their WAL lies in its own archive, which is not drawn; \
                 `full-db-loss-pgbackrest` restores them",
                standing.stanza
            ));
        }
    }
    chart.backups.sort_by_key(|backup| backup.ended_at);
}

impl Args {
    fn say(&self, charts: &[Chart]) -> Result<(), Failure> {
        if self.json {
            return document::write_json(&charts);
        }
        if let Some(path) = &self.svg {
            let [chart] = charts else {
                let help = "name the database: `runbook backups map DATABASE --svg FILE`";
                return Err(Failure::new(Exit::Usage, "one picture shows one cluster").help(help));
            };
            return document::write(&svg(chart), Some(path));
        }
        for chart in charts {
            out_part!("{}", text(chart, screen::columns(), screen::out_palette()));
        }
        Ok(())
    }
}
