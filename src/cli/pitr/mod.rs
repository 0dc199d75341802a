//! `runbook pitr`: how a moment is recovered, or why it is impossible. Touches nothing.

mod rate;
mod say;

use super::args::{InventoryArgs, moment};
use super::recoverable::{LookError, Recoverable, database};
use super::site::Site;
use super::wal_location::WalLocationArgs;
use super::{Exit, Failure, wiring};
use crate::base::clock;
use crate::catalog::recovery::{Edge, Goal};
use crate::pgformat::{Lsn, Timeline};
use crate::wal::outlook::{self, Planned};

/// Arguments of `pitr`.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("goal"),
    after_help = "Examples:\n  runbook pitr orders --at '2026-01-28T14:29:00Z'\n  runbook pitr orders --at '14:29 Europe/Berlin'\n  runbook pitr orders --lsn 0/59FFE48 --timeline 1     as `runbook wal search` prints it\n  runbook pitr orders                                  as far as the archive leads\n  runbook pitr orders --wal-location offsite/wal       with WAL that `cp` archived there\n\nNothing is started, stopped or written. The plan names the backup, the segments, bytes, minutes and disk, where\nreplay stops, and the command that carries it out. The exit code is 4 when it is impossible, with the reason."
)]
pub struct Args {
    /// The database; may be left out when only one has a store
    database: Option<String>,
    /// A point in time: the last commit not after it is the last one there is
    #[arg(long, value_name = "TIME", group = "goal")]
    at: Option<String>,
    /// A position in the WAL: the first record that begins there or later is the last one
    #[arg(long, value_name = "LSN", group = "goal")]
    lsn: Option<Lsn>,
    /// A transaction: its commit is the last one there is
    #[arg(long, value_name = "NUMBER", group = "goal")]
    xid: Option<u64>,
    /// A restore point
    #[arg(long, value_name = "NAME", group = "goal")]
    name: Option<String>,
    /// The end of the newest backup
    #[arg(long, group = "goal")]
    immediate: bool,
    /// End just before the time, position or transaction
    #[arg(long)]
    exclusive: bool,
    /// The timeline to follow; default: the one that was live at the target
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    timeline: Option<u32>,
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    location: WalLocationArgs,
    /// The environment whose database is meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Plans a recovery.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let goal = args.goal()?;
    if args.exclusive && !matches!(goal, Goal::Time(_) | Goal::Lsn(_) | Goal::Xid(_)) {
        return Err(Failure::new(Exit::Usage, "only a time, a position or a transaction can be left out"));
    }
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let name = database(&site, args.database.as_deref())?;
    let recoverable = args.location.beside(Recoverable::open(&site, &name)?, &site)?;
    let planned = wiring::block_on(async {
        let found = recoverable.look().await?;
        outlook::plan(found, (&goal, args.edge()), args.timeline.map(Timeline)).await
    })?;
    let planned = planned
        .map_err(|error| Failure::new(Exit::Failed, format!("what `{name}` has cannot be read")).because(&error))?;
    let asked = (&goal, args.edge());
    let about = say::About { site: &site, database: &name, asked, location: &args.location };
    match (planned, args.json) {
        (Planned::Possible(plan), true) => say::machine(&about, &plan),
        (Planned::Possible(plan), false) => {
            say::people(&about, &plan);
            Ok(Exit::Success)
        }
        (Planned::Impossible(why), json) => say::impossible(&about, &why, json.into()),
    }
}

/// Prints the plan of a recovery to `goal` by the backup `only`, or by whichever is best, or why there is none.
///
/// # Errors
/// Fails when the store gives no answer.
pub fn tell(site: &Site, database: &str, (goal, only): (&Goal, Option<&str>)) -> Result<(), Failure> {
    let recoverable = Recoverable::open(site, database)?;
    let planned = wiring::block_on(async {
        let mut found = recoverable.look().await?;
        if let Some(only) = only {
            found.clusters.iter_mut().for_each(|cluster| cluster.backups.retain(|backup| backup.id == only));
        }
        outlook::plan(found, (goal, Edge::Included), None).await
    })?;
    let unread =
        |error: &LookError| Failure::new(Exit::Failed, format!("what `{database}` has cannot be read")).because(error);
    match planned.map_err(|error| unread(&error))? {
        Planned::Possible(plan) => {
            say::facts(&say::About { site, database, asked: (goal, Edge::Included), location: &WalLocationArgs::default() }, &plan)
        }
        Planned::Impossible(why) => tell!("warning: the archive does not lead there: {}", why.why),
    }
    Ok(())
}

impl Args {
    fn edge(&self) -> Edge {
        if self.exclusive { Edge::Excluded } else { Edge::Included }
    }

    fn goal(&self) -> Result<Goal, Failure> {
        if let Some(text) = &self.at {
            let now = clock::now();
            let at = moment(text, now)?;
            if at > now {
                return Err(Failure::new(Exit::Usage, format!("{at} is still to come"))
                    .help("leave --at out to recover as far as the archive leads"));
            }
            return Ok(Goal::Time(at));
        }
        Ok(match (self.lsn, self.xid, &self.name, self.immediate) {
            (Some(lsn), ..) => Goal::Lsn(lsn),
            (None, Some(xid), ..) => Goal::Xid(xid),
            (None, None, Some(name), _) => Goal::Name(name.clone()),
            (None, None, None, true) => Goal::Immediate,
            (None, None, None, false) => Goal::Newest,
        })
    }
}
