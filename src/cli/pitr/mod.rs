//! `runbook pitr`: how a moment is recovered, or why it is impossible. Touches nothing.

mod other;
mod rate;
mod say;

use serde_json::{Value, json};

use super::args::{InventoryArgs, moment};
use super::recoverable::{LookError, Recoverable, database, with_server};
use super::site::Site;
use super::wal_location::WalLocationArgs;
use super::{Exit, Failure, way_out, wiring};
use crate::base::clock;
use crate::catalog::KIND_POSTGRES_BASE;
use crate::catalog::recovery::{Edge, Goal};
use crate::pgformat::{Lsn, Timeline};
use crate::report::mask_text;
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
    let timeline = args.timeline.map(Timeline);
    if let Some(name) = without_store(&site, args.database.as_deref()) {
        return other::alone(&name, &other::others(&site, &name, (&goal, timeline)), args.json.into());
    }
    let name = database(&site, args.database.as_deref())?;
    let others = other::others(&site, &name, (&goal, timeline));
    let asked = (&goal, args.edge());
    let (site, database, location) = (&site, name.as_str(), &args.location);
    let about = say::About { site, database, asked, location, others: &others, newest: None }.with_newest();
    let planned = planned(&about, None, timeline)?;
    match (planned, args.json) {
        (Planned::Possible(plan), true) => say::machine(&about, &plan),
        (Planned::Possible(plan), false) => {
            say::people(&about, &plan);
            Ok(Exit::Success)
        }
        (Planned::Impossible(why), json) => say::impossible(&about, &why, json.into()),
    }
}

/// A recovery that somebody else plans.
pub struct Sought<'a> {
    /// Where it ends.
    pub goal: &'a Goal,
    /// The backup to begin with; whichever is best where none was named.
    pub only: Option<&'a str>,
    /// The timeline to follow, where one was named.
    pub timeline: Option<Timeline>,
}

impl Sought<'_> {
    /// What else leads there. A backup that was named is that one.
    fn others(&self, site: &Site, database: &str) -> Vec<other::Other> {
        match self.only {
            None => other::others(site, database, (self.goal, self.timeline)),
            Some(_) => Vec::new(),
        }
    }
}

/// Prints the plan of a recovery, or why there is none.
///
/// # Errors
/// Fails when the store gives no answer.
pub fn tell(site: &Site, database: &str, sought: &Sought<'_>) -> Result<(), Failure> {
    let others = sought.others(site, database);
    let asked = (sought.goal, Edge::Included);
    let location = &WalLocationArgs::default();
    let about = say::About { site, database, asked, location, others: &others, newest: None }.with_newest();
    match planned(&about, sought.only, sought.timeline)? {
        Planned::Possible(plan) => say::facts(&about, &plan),
        Planned::Impossible(why) => {
            tell!("warning: the archive does not lead there: {}", why.why);
            others.iter().for_each(|other| tell!("  but {}", other.told()));
        }
    }
    Ok(())
}

/// The same for machines.
///
/// # Errors
/// Fails when the store gives no answer.
pub fn told(site: &Site, database: &str, sought: &Sought<'_>) -> Result<Value, Failure> {
    let others = sought.others(site, database);
    let asked = (sought.goal, Edge::Included);
    let location = &WalLocationArgs::default();
    let about = say::About { site, database, asked, location, others: &others, newest: None }.with_newest();
    Ok(match planned(&about, sought.only, sought.timeline)? {
        Planned::Possible(plan) => say::told(&about, &plan),
        Planned::Impossible(why) => json!({ "database": database, "possible": false, "why": why.why.to_string() }),
    })
}

impl say::About<'_> {
    /// Finds out, where the end of a backup is asked for, up to when there are commits: they are given up.
    fn with_newest(self) -> Self {
        if *self.asked.0 != Goal::Immediate {
            return self;
        }
        let all = say::About { asked: (&Goal::Newest, Edge::Included), ..self };
        let newest = match planned(&all, None, None) {
            // Without a commit behind it the newest backup itself is the newest state there is.
            Ok(Planned::Possible(plan)) => plan.newest_at.or(Some(plan.backup.ended_at)),
            // The plan itself says why.
            Ok(Planned::Impossible(_)) | Err(_) => None,
        };
        say::About { newest, ..self }
    }
}

/// Plans by what the archive holds and by what only the server itself still has: a recovery rescues that first.
fn planned(about: &say::About<'_>, only: Option<&str>, timeline: Option<Timeline>) -> Result<Planned, Failure> {
    let recoverable = about.location.beside(Recoverable::open(about.site, about.database)?, about.site)?;
    let planned = wiring::block_on(async {
        let (recoverable, unseen) = with_server(recoverable, about.site).await;
        let mut found = recoverable.look().await?.of_kind(KIND_POSTGRES_BASE);
        if let Some(only) = only {
            found.clusters.iter_mut().for_each(|cluster| cluster.backups.retain(|backup| backup.id == only));
        }
        let mut planned = outlook::plan(found, about.asked, timeline).await?;
        match &mut planned {
            Planned::Possible(plan) => plan.notes.extend(unseen),
            // What is not seen may be the very thing that leads there.
            Planned::Impossible(_) => unseen.iter().for_each(|note| tell!("note: {}", mask_text(note))),
        }
        Ok(planned)
    })?;
    planned.map_err(|error: LookError| {
        let failure =
            Failure::new(Exit::Failed, format!("what `{}` has cannot be read", about.database)).because(&error);
        match way_out::lines(about.site, about.database, &about.site.again).as_slice() {
            [] => failure,
            lines => failure.help(lines.join("; ")),
        }
    })
}

/// The database that is meant, where pgBackRest has all its backups.
fn without_store(site: &Site, named: Option<&str>) -> Option<String> {
    let all = &site.inventory.databases;
    let name = named.map(str::to_owned).or_else(|| all.keys().next().filter(|_| all.len() == 1).cloned())?;
    all.get(&name)?.sole_stanza().map(|_| name)
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
