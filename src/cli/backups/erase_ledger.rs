//! `runbook backups erase-ledger`: keeps what restores must forget again, without keeping who.

use std::io::Read as _;

use super::super::args::InventoryArgs;
use super::super::screen::Face;
use super::super::site::Site;
use super::super::{Exit, Failure, document, forgetting, wiring};
use super::ledger_copy::{Forked, bring_in, failed, send};
use crate::action::{ErasureContent, ErasureKey, ErasureLine, Forget, Secrets as _, Treatment, Word};
use crate::journal::erasure::{ErasureError, ErasureLedger};
use crate::report::mask_text;

/// Arguments of `backups erase-ledger`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  printf %s bob@example.org | runbook backups erase-ledger add --key erasure --database orders --table users --column email\n  printf %s bob | runbook backups erase-ledger add --key erasure --database orders --table visits --column who --anonymise ip,agent\n  printf %s bob@example.org | runbook backups erase-ledger lift --key erasure --database orders --table users --column email\n  runbook backups erase-ledger list --database orders\n  runbook backups erase-ledger merge\n  runbook backups erase-ledger export >erasure.jsonl\n\nBackups are not rewritten: what is erased today comes back with a restore. The ledger says what has to be erased\nthen again, as keyed hashes (HMAC-SHA256), never as identifiers. `postgres.erase` does it in every shipped restore of\na database whose inventory entry has `erasure: { keys: [SECRET] }`. Keep the key where a restore can reach it.\n\nErase in the database first, then add the line: a restore leaves the rows of data that is newer than the line alone,\nsince whoever stands in it came back later. Forget somebody once more by adding the line once more; `lift` takes it\nback for good.\n\nWith `audit.ship` the ledger is shipped with each line, and what another machine shipped is brought in before it is\nlisted or added to. Where two machines went on by themselves, restores are refused until `merge` has joined them."
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Add somebody who must be forgotten; the identifier comes on standard input
    Add(Box<Add>),
    /// Say that somebody need not be forgotten any more: they came back; the identifier comes on standard input
    Lift(Box<Whom>),
    /// List what must be forgotten
    List(List),
    /// Bring in what another machine shipped, also where both went on by themselves
    Merge(Merge),
    /// Write the ledger as it is, line by line, when all of it holds
    Export,
}

/// Arguments of `erase-ledger add`.
#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    whom: Whom,
    /// Keep the rows, and clear these columns and the one that identifies; without it they are deleted
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    anonymise: Vec<String>,
}

/// Who is meant, and where.
#[derive(Debug, clap::Args)]
struct Whom {
    /// The identifier; `-` reads it from standard input, so that no process list and no history of a shell has it
    #[arg(long, value_name = "VALUE|-", default_value = "-")]
    subject_key: String,
    /// The secret of the inventory that hashes it; at least 32 bytes
    #[arg(long, value_name = "SECRET")]
    key: String,
    /// The database of the inventory
    #[arg(long, value_name = "NAME")]
    database: String,
    /// The table, with its schema when it is not `public`
    #[arg(long)]
    table: String,
    /// The column that holds the identifier
    #[arg(long)]
    column: String,
    /// The database within the server; default the `dbname` of the inventory
    #[arg(long, value_name = "NAME")]
    dbname: Option<String>,
    /// Why; nothing that tells who
    #[arg(long)]
    reason: Option<String>,
    /// Who asks for it; default the account
    #[arg(long = "as", value_name = "NAME")]
    who: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The environment whose secrets are meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `erase-ledger merge`.
#[derive(Debug, clap::Args)]
struct Merge {
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The environment whose store of `audit.ship` is meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `erase-ledger list`.
#[derive(Debug, clap::Args)]
struct List {
    /// Only of this database
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The environment whose store of `audit.ship` is meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does what the subcommand says.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        Command::Add(args) => {
            let treatment = match args.anonymise.is_empty() {
                true => Treatment::Delete,
                false => Treatment::Anonymise(args.anonymise.clone()),
            };
            add(&args.whom, Word::Forget, treatment)
        }
        Command::Lift(whom) => add(whom, Word::Lift, Treatment::Delete),
        Command::List(args) => list(args),
        Command::Merge(args) => merge(args),
        Command::Export => export(),
    }
}

fn add(args: &Whom, word: Word, treatment: Treatment) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), Face::Json)?;
    if !site.inventory.databases.contains_key(&args.database) {
        return Err(crate::cli::site::no_database(&args.database, &site.inventory));
    }
    let secret = site
        .vault
        .get(&args.key)
        .map_err(|error| Failure::new(Exit::Refused, "the key cannot be had").because(&error))?;
    let key = ErasureKey::new(&secret).map_err(|error| {
        Failure::new(Exit::Refused, error.to_string()).help("make one with `openssl rand -base64 32`")
    })?;
    let value = identifier(&args.subject_key)?;
    let forget = Forget {
        subject: key.subject(&value),
        key_id: key.id(),
        database: args.database.clone(),
        dbname: args.dbname.clone(),
        table: args.table.clone(),
        column: args.column.clone(),
        word,
        treatment,
        reason: args.reason.clone(),
    };
    let actor = wiring::actor_as(args.who.as_deref())?;
    let runs = wiring::runs()?;
    let ledger = ErasureLedger::below(runs.root());
    bring_in(&site, &ledger, Forked::Refuse)?;
    let content = ledger.read().map_err(|error| failed(&error))?;
    if !word.is_forget() && !content.in_force().iter().any(|line| line.forget.is_about(&forget)) {
        return Err(Failure::new(Exit::Usage, "no line that counts is about this subject in this column").help(
            "`runbook backups erase-ledger list` shows them; the value, its column and the key must be the same",
        ));
    }
    let line = ledger.add(&actor.name, forget).map_err(|error| failed(&error))?;
    if args.json {
        document::write_json(&line)?;
    } else {
        out!("{}", told(&line));
    }
    send(&site)?;
    Ok(Exit::Success)
}

/// The identifier, without the newline that a terminal or `echo` adds.
fn identifier(given: &str) -> Result<String, Failure> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(Exit::Usage, "the identifier cannot be read").because(&error))?;
    }
    let value = text.trim_end_matches(['\n', '\r']);
    match value.is_empty() {
        true => Err(Failure::new(Exit::Usage, "the identifier is empty").help("write it to standard input")),
        false => Ok(value.to_owned()),
    }
}

fn read() -> Result<(ErasureLedger, ErasureContent), Failure> {
    let ledger = ErasureLedger::below(&wiring::state_root()?);
    let content = ledger.read().map_err(|error| failed(&error))?;
    Ok((ledger, content))
}

fn merge(args: &Merge) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let name = site.inventory.audit.ship.as_ref();
    let name = name.ok_or_else(|| {
        Failure::new(Exit::Usage, "no store is shipped to").help("write `audit: { ship: STORE }` in the inventory")
    })?;
    let lines = bring_in(&site, &ErasureLedger::below(&wiring::state_root()?), Forked::Join)?;
    send(&site)?;
    if args.json {
        document::write_json(&serde_json::json!({ "store": name, "lines": lines }))?;
    } else {
        out!("{lines} lines of `{name}` were brought in");
    }
    Ok(Exit::Success)
}

fn list(args: &List) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let brought = bring_in(&site, &ErasureLedger::below(&wiring::state_root()?), Forked::Refuse);
    let (_, content) = read()?;
    let fits = |line: &&ErasureLine| args.database.as_ref().is_none_or(|name| *name == line.forget.database);
    let lines: Vec<&ErasureLine> = content.lines.iter().filter(fits).collect();
    // What is here is shown in any case; that it may not be all of it is how the command ends.
    match (args.json, lines.is_empty()) {
        (true, _) => document::write_json(&lines)?,
        (false, true) if brought.is_ok() => none(args.database.as_ref(), &site),
        (false, _) => lines.iter().for_each(|line| out!("{}", told(line))),
    }
    brought?;
    sound(&content).map(|()| Exit::Success)
}

/// What is said where there is no line: that nobody has to be forgotten, or that nobody can tell.
fn none(database: Option<&String>, site: &Site) {
    let names = site.inventory.databases.keys().filter(|name| database.is_none_or(|only| only == *name));
    let faults: Vec<_> = names.filter_map(|name| Some((name, forgetting::fault(name, site)?))).collect();
    if faults.is_empty() {
        tell!("nothing has to be forgotten");
    }
    for (name, fault) in faults {
        tell!("warning: `{name}`: {}", fault.told());
    }
}

fn export() -> Result<Exit, Failure> {
    let (ledger, content) = read()?;
    sound(&content)?;
    out_part!("{}", String::from_utf8_lossy(&ledger.bytes().map_err(|error| failed(&error))?));
    Ok(Exit::Success)
}

fn told(line: &ErasureLine) -> String {
    let Forget { subject, database, table, column, treatment, word, reason, .. } = &line.forget;
    let treatment = match (word, treatment) {
        (Word::Lift, _) => "  lifted: they came back".to_owned(),
        (Word::Forget, Treatment::Delete) => String::new(),
        (Word::Forget, Treatment::Anonymise(columns)) => {
            format!("  keeps the rows without {column}, {}", columns.join(", "))
        }
    };
    let reason = reason.as_ref().map(|reason| format!("  {reason}")).unwrap_or_default();
    let short = subject.get(..12).unwrap_or(subject);
    mask_text(&format!(
        "{:>4}  {}  {short}  {database} {table}.{column}{treatment}  by {}{reason}",
        line.n, line.at, line.by
    ))
}

fn sound(content: &ErasureContent) -> Result<(), Failure> {
    match content.problems.first() {
        None => Ok(()),
        Some((line, what)) => Err(failed(&ErasureError::Broken { line: *line, what: what.clone() })),
    }
}
