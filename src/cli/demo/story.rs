//! The demo's course.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::super::args::{InventoryArgs, Subject};
use super::super::invoke::{Carried, Invocation};
use super::super::prepare::{self, RunIdentity};
use super::super::screen::{self, Face};
use super::super::{Exit, Failure, wiring};
use super::cluster::{Cluster, PORT};
use super::{Args, comparison, content};
use crate::action::Mode;
use crate::base::units::human_duration;
use crate::base::{Timestamp, clock};
use crate::journal::{AllowedSigners, audit};
use crate::report::Tone;
use crate::store::Opening;
use crate::wal;

/// Plays the demo below a folder of its own and removes it at the end.
pub fn play(args: &Args) -> Result<Exit, Failure> {
    let home = match &args.home {
        Some(home) => own(home)?,
        None => settle(args)?,
    };
    let began = clock::monotonic();
    let told = stage(&home, args);
    if args.keep {
        tell!("kept: {} (its server is stopped)", home.display());
    } else if told.is_left_running() {
        tell!("its server could not be stopped, so `{}` is left", home.display());
    } else {
        std::fs::remove_dir_all(&home).map_err(|error| {
            Failure::new(Exit::Failed, format!("`{}` cannot be removed", home.display())).because(&error)
        })?;
    }
    told.into_result()?;
    tell!("demo finished in {}", human_duration(clock::monotonic() - began));
    Ok(Exit::Success)
}

/// How the demo ended.
enum Told {
    /// Its server is gone.
    Stopped(Result<(), Failure>),
    /// Its server could not be stopped, so its folder must stay.
    LeftRunning(Failure),
}

impl Told {
    fn is_left_running(&self) -> bool {
        matches!(self, Self::LeftRunning(_))
    }

    fn into_result(self) -> Result<(), Failure> {
        match self {
            Self::Stopped(result) => result,
            Self::LeftRunning(failure) => Err(failure),
        }
    }
}

/// Plays all of it, and ends the server whatever came.
fn stage(home: &Path, args: &Args) -> Told {
    let cluster = match cluster(home) {
        Ok(cluster) => cluster,
        Err(failure) => return Told::Stopped(Err(failure)),
    };
    let told = Story { home, cluster: &cluster, scale: args.scale }.tell();
    match cluster.stop() {
        Ok(()) => Told::Stopped(told),
        Err(failure) => Told::LeftRunning(told.err().unwrap_or(failure)),
    }
}

fn cluster(home: &Path) -> Result<Cluster, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| Failure::new(Exit::Bug, "signals cannot be received").because(&error))?;
    }
    Cluster::new(home, server_user()?, interrupted)
}

/// Takes only a folder that the demo itself made and went on from: it is removed at the end.
fn own(home: &Path) -> Result<PathBuf, Failure> {
    if wiring::program()? == home.join("runbook") {
        return Ok(home.to_owned());
    }
    Err(Failure::new(Exit::Usage, format!("`{}` is not a folder that the demo made", home.display()))
        .help("run `runbook demo` without `--home`; nothing was changed"))
}

/// Makes the demo's folder. As root the server runs as another user, who must be able to run this program
/// as `archive_command`: the demo goes on from a copy that everybody may run.
fn settle(args: &Args) -> Result<PathBuf, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, "the demo's folder cannot be made").because(&error);
    let base = ["/var/tmp", "/tmp"].into_iter().map(PathBuf::from).find(|path| path.is_dir());
    let base = base.unwrap_or_else(std::env::temp_dir);
    let home = tempfile::Builder::new().prefix("rbdemo").tempdir_in(base).map_err(failed)?.keep();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    if !rustix::process::geteuid().is_root() {
        return Ok(home);
    }
    let copy = home.join("runbook");
    std::fs::copy(wiring::program()?, &copy).map_err(failed)?;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    #[expect(clippy::disallowed_methods, reason = "this process goes on as its own copy")]
    let mut next = std::process::Command::new(&copy);
    next.arg("demo").arg("--home").arg(&home).arg("--scale").arg(args.scale.to_string());
    if args.keep {
        next.arg("--keep");
    }
    Err(failed(next.exec()))
}

/// The user that the server runs as: nobody may run one as root.
fn server_user() -> Result<Option<String>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let exists = |name: &str| passwd.lines().any(|line| line.split(':').next() == Some(name));
    ["postgres", "nobody"].into_iter().find(|name| exists(name)).map(|name| Some(name.to_owned())).ok_or_else(|| {
        Failure::new(Exit::Refused, "PostgreSQL does not run as root and there is no user `postgres` or `nobody`")
            .help("run the demo as an ordinary user")
    })
}

struct Story<'a> {
    home: &'a Path,
    cluster: &'a Cluster,
    scale: u32,
}

impl Story<'_> {
    fn tell(&self) -> Result<(), Failure> {
        say(1, "making a PostgreSQL cluster whose WAL is archived by `runbook wal push`");
        self.prepare()?;
        say(2, "filling it: customers, products, orders, order items");
        self.cluster.sql(content::SCHEMA)?;
        self.cluster.sql(&content::load(self.scale))?;
        let size = self.cluster.sql("SELECT pg_size_pretty(pg_database_size('postgres'))")?;
        tell!("    {} in four tables with foreign keys", size.trim());
        say(3, "taking a base backup with the shipped runbook `base-backup`");
        self.carry("postgres/base-backup.yaml", &[])?;
        say(4, "committing more: only the archived WAL can bring this back");
        self.cluster.sql(&content::later(self.scale))?;
        let before = self.archived_content()?;
        say(5, "DISASTER: kill -9 the server and remove its data directory");
        let incident_at = clock::now();
        self.cluster.kill()?;
        self.cluster.destroy()?;
        tell!("    {} is gone", self.cluster.pgdata().display());
        say(6, "recovering with the shipped runbook `full-db-loss`");
        let carried = self.carry("postgres/full-db-loss.yaml", &[("incident_at", incident_at.to_string())])?;
        say(7, "holding every row against what was there before");
        self.compare(&before)?;
        Self::epilogue(&carried, incident_at)
    }

    fn prepare(&self) -> Result<(), Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(Exit::Failed, "the demo cannot be prepared").because(error)
        };
        let store_dir = self.home.join("store");
        let url = format!("file://{}", store_dir.display());
        self.give_to_server(&self.home.join("processes"))?;
        let inventory = format!(
            "version: 1\ndatabases:\n  shop:\n    pgdata: {}\n    socket: {}\n    port: {PORT}\n    store: depot\n    checks:\n      \
             - {{ name: orders exist, sql: \"SELECT count(*) FROM orders\", expect: \"> 0\" }}\n      \
             - {{ name: each item has a price, sql: \"SELECT count(*) FROM order_items WHERE price_cents <= 0\", expect: \"= 0\" }}\n\
             stores:\n  depot: {{ url: \"{url}\" }}\n\
             environments:\n  drill:\n    databases: {{ shop: {{ scratch: true }} }}\n    stores: {{ depot: {{ read_only: true }} }}\n",
            self.cluster.pgdata().display(),
            self.home.display(),
        );
        self.write("inventory.yaml", &inventory)?;
        std::fs::create_dir(&store_dir).map_err(|error| failed(&error))?;
        self.give_to_server(&store_dir)?;
        let entry = crate::language::inventory::StoreEntry { url: url.clone(), ..Default::default() };
        Opening::plain(&entry, "depot").initialize().map_err(|error| failed(&error))?;
        let config = wal::Config::new(entry, "shop");
        let path = self.write("wal.yaml", &config.to_text().map_err(|error| failed(&error))?)?;
        self.give_to_server(self.home)?;
        self.cluster.create(&wiring::program()?, &path)?;
        self.cluster.start()
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.home.join(name);
        #[expect(clippy::disallowed_methods, reason = "a throw-away file")]
        std::fs::write(&path, text).map_err(|error| {
            Failure::new(Exit::Failed, format!("`{}` cannot be written", path.display())).because(&error)
        })?;
        Ok(path)
    }

    /// Lets the server's user write into a folder of the demo.
    fn give_to_server(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Exit::Failed, format!("`{}` cannot be given to the server", path.display())).because(&error)
        };
        let Some(user) = server_user()? else { return Ok(()) };
        let passwd = std::fs::read_to_string("/etc/passwd").map_err(failed)?;
        let line = passwd.lines().find(|line| line.split(':').next() == Some(user.as_str())).unwrap_or_default();
        let number = |field: usize| line.split(':').nth(field).and_then(|text| text.parse::<u32>().ok());
        std::os::unix::fs::chown(path, number(2), number(3)).map_err(failed)
    }

    /// Waits until everything committed so far is archived, and gives its content.
    fn archived_content(&self) -> Result<String, Failure> {
        let content = self.cluster.sql(&content::fingerprint())?;
        let last = self.cluster.sql("SELECT pg_walfile_name(pg_switch_wal())")?;
        let deadline = clock::monotonic() + Duration::from_secs(60);
        let archived = format!("SELECT coalesce(last_archived_wal, '') >= '{}' FROM pg_stat_archiver", last.trim());
        while self.cluster.sql(&archived)?.trim() != "t" {
            if clock::monotonic() > deadline {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("segment {} was not archived within a minute", last.trim()),
                ));
            }
            wiring::block_on(async { tokio::time::sleep(Duration::from_millis(100)).await })?;
        }
        Ok(content)
    }

    /// Carries a shipped runbook out by the same code as `runbook run`.
    fn carry(&self, path: &str, params: &[(&str, String)]) -> Result<Carried, Failure> {
        let inventory = InventoryArgs { inventory: vec![self.home.join("inventory.yaml")] };
        let subject = Subject {
            runbook: format!("<shipped>/{path}"),
            environment: None,
            param: Vec::new(),
            params_file: None,
            var: Vec::new(),
            inventory,
            max_parallel: None,
        };
        let prepared = prepare::load_runbook(&subject.runbook, &subject.inventory)?;
        prepared.demand_sound()?;
        let invocation = Invocation::new(Face::People, None)?;
        let given = params.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let params = std::iter::once(("database".to_owned(), "shop".to_owned())).chain(given);
        let params = params.map(|(name, value)| (name, serde_json::Value::String(value))).collect();
        let identity = RunIdentity::new(Mode::Real, invocation.runs.root(), params);
        let carried = invocation.fresh(prepared.bind(&subject, &identity)?)?;
        invocation.summary(&carried);
        match carried.exit() {
            Exit::Success => Ok(carried),
            exit => Err(Failure::new(exit, format!("the run of `{path}` did not succeed"))
                .help(format!("its folder: {}", carried.dir.path().display()))),
        }
    }

    /// Fails loudly when a row is missing or changed.
    fn compare(&self, before: &str) -> Result<(), Failure> {
        let after = self.cluster.sql(&content::fingerprint())?;
        tell!("    {:12} {:>10}  {:>26}  {:>26}", "table", "rows", "hash before", "hash after");
        let tables = comparison::compare(before, &after);
        for table in &tables {
            let verdict = match table.equal {
                true => screen::palette().paint(Tone::Good, "equal"),
                false => screen::palette().paint(Tone::Bad, "DIFFERENT"),
            };
            let (name, rows) = (table.name, &table.rows);
            tell!("    {name:12} {rows:>10}  {:>26}  {:>26}  {verdict}", table.before, table.after);
        }
        comparison::verdict(&tables)
    }

    fn epilogue(carried: &Carried, incident_at: Timestamp) -> Result<(), Failure> {
        let audit = audit::verify_anchored(&wiring::runs()?, &carried.dir, &AllowedSigners::default());
        if !audit.is_ok() {
            return Err(Failure::new(Exit::Journal, "the run's journal does not hold together"));
        }
        let good = screen::palette().paint(Tone::Good, "every committed and archived row is back");
        tell!("\n{good}; lost at {incident_at}");
        tell!("  report   {}", carried.dir.report().display());
        tell!("  journal  {} ({} events, verified)", carried.dir.path().join("journal.jsonl").display(), audit.events);
        tell!("  look     runbook show {}", carried.dir.id());
        Ok(())
    }
}

fn say(number: u32, text: &str) {
    tell!("\n{}", screen::palette().paint(Tone::Strong, &format!("{number}/7 {text}")));
}
