//! `runbook pack`: everything a runbook needs in one folder, for the day the site is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use super::args::{InventoryArgs, Subject};
use super::outline::outline;
use super::{Exit, Failure, document, frozen, prepare, schema, wiring};
use crate::base::digest::Hasher;
use crate::plan::{PlanFile, PlanSource};
use crate::report::checklist::{html, markdown, secrets};

/// What the folder holds is listed here.
const SUMS: &str = "SHA256SUMS";

/// Arguments of `pack`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  runbook pack full-db-loss -p database=orders -o /media/stick/orders\n  cd /media/stick/orders && sha256sum -c SHA256SUMS && ./runbook check full-db-loss\n\nThe folder holds the definitions with what they include, the inventory, the schemas, this program, a checklist for paper (Markdown and HTML) and a README. It holds no secret: secrets stand by name, and by where they come from. Code 4: the folder is not empty, or two runbooks have one name."
)]
pub struct Args {
    /// Runbooks: paths, or names
    #[arg(required = true)]
    runbooks: Vec<String>,
    /// The environment the checklists are for; else the one marked `default`
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// A parameter of the checklists; repeatable
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    param: Vec<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The folder; made when it is not there
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// Packs runbooks into a folder.
pub fn run(args: Args) -> Result<Exit, Failure> {
    demand_empty(&args.output)?;
    let mut packed = Vec::new();
    for runbook in &args.runbooks {
        packed.push(plan(runbook, &args)?);
    }
    demand_distinct(&packed)?;
    let files = definitions(&packed)?;
    let mut written = BTreeSet::new();
    let mut put = |name: &str, text: &str| -> Result<(), Failure> {
        let path = args.output.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&args.output)).map_err(|error| failed(&path, &error))?;
        document::write(text, Some(&path))?;
        written.insert(name.to_owned());
        Ok(())
    };
    for (name, text) in &files.texts {
        put(name, text)?;
    }
    if !files.inventories.is_empty() {
        put("inventory.yaml", &inventory(&files.inventories))?;
    }
    for (name, text) in schema::all() {
        put(&format!("schemas/{name}"), &text)?;
    }
    let registry = crate::actions::registry();
    for file in &packed {
        let list = outline(file.plan.clone(), &registry, &file.open)?;
        put(&format!("print/{}.md", file.plan.name), &markdown(&list))?;
        put(&format!("print/{}.html", file.plan.name), &html(&list))?;
    }
    put("README.md", &readme(&packed, &files))?;
    let program = args.output.join("runbook");
    std::fs::copy(wiring::supervisor()?, &program).map_err(|error| failed(&program, &error))?;
    written.insert("runbook".to_owned());
    document::write(&sums(&args.output, &written)?, Some(&args.output.join(SUMS)))?;
    tell!(
        "{}: {} files, {} {}; `sha256sum -c {SUMS}` verifies it",
        args.output.display(),
        written.len() + 1,
        packed.len(),
        if packed.len() == 1 { "runbook" } else { "runbooks" }
    );
    Ok(Exit::Success)
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("`{}` cannot be written", path.display())).because(error)
}

fn demand_empty(folder: &Path) -> Result<(), Failure> {
    let mut entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(folder, &error)),
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let message = format!("`{}` is not empty; nothing was written", folder.display());
    Err(Failure::new(Exit::Refused, message).help("name a folder that is empty or not there"))
}

/// The checklists are called after the runbooks: of two that have one name, one would be lost.
fn demand_distinct(packed: &[PlanFile]) -> Result<(), Failure> {
    let mut named: BTreeMap<&str, Option<&PlanSource>> = BTreeMap::new();
    for file in packed {
        let own = file.plan.sources.first();
        let (name, shown) =
            (&file.plan.name, |source: Option<&PlanSource>| source.map_or("?", |one| &one.name).to_owned());
        let Some(other) = named.insert(name, own) else { continue };
        let message = format!("`{}` and `{}` are both called `{name}`; nothing was written", shown(other), shown(own));
        return Err(Failure::new(Exit::Refused, message).help("pack each of them into a folder of its own"));
    }
    Ok(())
}

/// Only the parameters that a runbook has are given to it.
fn plan(runbook: &str, args: &Args) -> Result<PlanFile, Failure> {
    let prepared = prepare::load_runbook(runbook, &args.inventory)?;
    prepared.demand_sound()?;
    let known = |given: &&String| {
        let name = given.split_once('=').map_or("", |(name, _)| name.trim());
        args.runbooks.len() == 1 || prepared.plan.runbook.params.iter().any(|(param, _)| param.value == name)
    };
    let subject = Subject {
        runbook: runbook.to_owned(),
        environment: args.environment.clone(),
        param: args.param.iter().filter(known).cloned().collect(),
        params_file: None,
        var: Vec::new(),
        inventory: args.inventory.clone(),
        max_parallel: None,
    };
    let mut file = frozen::freeze(&prepared, &subject, &wiring::state_root()?)?;
    file.given.inventories.clone_from(&prepared.inventory.files);
    Ok(file)
}

/// The texts by their names in the folder.
struct Definitions {
    texts: BTreeMap<String, String>,
    runbooks: Vec<String>,
    /// Inventories that no runbook includes itself.
    inventories: BTreeSet<String>,
}

/// Keeps the places of files to each other, so that every `include` holds.
fn definitions(packed: &[PlanFile]) -> Result<Definitions, Failure> {
    let names = packed.iter().flat_map(|file| file.plan.sources.iter().map(|source| source.name.as_str()));
    let on_disk: Vec<PathBuf> = names.filter(|name| !name.starts_with("<shipped>")).map(absolute).collect();
    let root = on_disk.iter().filter_map(|path| path.parent()).fold(None, |root: Option<PathBuf>, parent| {
        Some(root.map_or_else(|| parent.to_owned(), |root| shared(&root, parent)))
    });
    let root = root.unwrap_or_default();
    let place = |name: &str| match name.strip_prefix("<shipped>/") {
        Some(shipped) => format!("runbooks/{shipped}"),
        None => {
            let path = absolute(name);
            format!("runbooks/{}", path.strip_prefix(&root).unwrap_or(&path).display())
        }
    };
    let mut found = Definitions { texts: BTreeMap::new(), runbooks: Vec::new(), inventories: BTreeSet::new() };
    for file in packed {
        for source in &file.plan.sources {
            let name = place(&source.name);
            if found.texts.insert(name.clone(), source.text.clone()).is_some_and(|other| other != source.text) {
                let message = format!("two different files would both be `{name}` in the folder");
                return Err(Failure::new(Exit::Usage, message).help("pack them into folders of their own"));
            }
        }
        let own = file.plan.sources.first();
        found.runbooks.extend(own.map(|source| place(&source.name)));
        if own.is_none_or(|source| !includes(&source.text)) {
            found.inventories.extend(file.given.inventories.iter().map(|name| place(name)));
        }
    }
    Ok(found)
}

/// Whether a runbook includes its inventory itself.
fn includes(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("include:"))
}

fn absolute(name: &str) -> PathBuf {
    let path = std::path::absolute(name).unwrap_or_else(|_| PathBuf::from(name));
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

fn shared(a: &Path, b: &Path) -> PathBuf {
    a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// An inventory that is found in the folder without being named.
fn inventory(files: &BTreeSet<String>) -> String {
    let mut text = "version: 1\ninclude:\n".to_owned();
    for file in files {
        let _ = writeln!(text, "  - {}", serde_json::Value::String(file.clone()));
    }
    text
}

fn readme(packed: &[PlanFile], files: &Definitions) -> String {
    let mut text = String::from("# Runbooks for the day the site is gone\n\n");
    let _ = writeln!(text, "Packed by `runbook` {}. Nothing here is a secret.\n", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "1. Is the folder whole? `sha256sum -c {SUMS}`");
    let _ = writeln!(
        text,
        "2. Work in this folder: `cd` to it. Keep the history of runs where it survives: `export RUNBOOK_STATE=/path/to/keep`"
    );
    let _ =
        writeln!(text, "3. Correct `inventory.yaml` and what it includes, where the machines are not the old ones.\n");
    for (file, path) in packed.iter().zip(&files.runbooks) {
        let plan = &file.plan;
        let given = |(name, value): (&String, &serde_json::Value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!(" -p {name}={}", crate::action::by_hand::quoted(&value))
        };
        let mut params: String = file.given.params.iter().map(given).collect();
        params.extend(file.open.iter().map(|name| format!(" -p {name}='5m ago'")));
        let confirm = if plan.protected { format!(" --confirm {}", plan.environment) } else { String::new() };
        let environment = format!(" -e {}", plan.environment);
        let _ = writeln!(text, "## {}\n\n{}\n", plan.name, plan.description);
        let _ = writeln!(text, "```sh\n./runbook check {path}\n./runbook dry-run {path}{environment}{params}");
        let _ = writeln!(text, "./runbook run {path}{environment}{params}{confirm}\n```\n");
        let _ = writeln!(text, "On paper: [Markdown](print/{0}.md), [HTML](print/{0}.html).\n", plan.name);
        for need in secrets(plan) {
            let _ = writeln!(text, "- needs the secret `{}`, from {}", need.name, need.from);
        }
    }
    text
}

fn sums(folder: &Path, files: &BTreeSet<String>) -> Result<String, Failure> {
    let mut text = String::new();
    for name in files {
        let path = folder.join(name);
        let mut hasher = Hasher::default();
        let copied = std::fs::File::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
        copied.map_err(|error| failed(&path, &error))?;
        let _ = writeln!(text, "{}  {name}", hasher.finish());
    }
    Ok(text)
}
