//! Plans in files: made from what was given, and held against the world before they are carried out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::args::{self, InventoryArgs, Subject};
use super::prepare::{self, Prepared, RunIdentity};
use super::{Exit, Failure};
use crate::action::Mode;
use crate::plan::{Change, Comparison, FileChange, Given, INCIDENT_AT, PlanFile, PlanFileError, compare};
use crate::report::difference;

type Params = BTreeMap<String, Value>;

/// A plan whose world is as it was: everything a run of it is bound from.
pub struct Thawed {
    /// The runbook, read again.
    pub prepared: Prepared,
    /// What it is bound to.
    pub subject: Subject,
    /// Its parameters, those that were left open included as far as they are given now.
    pub params: Params,
}

/// Freezes a runbook with what was given. When service was lost may be left open.
pub fn freeze(prepared: &Prepared, subject: &Subject, state: &Path) -> Result<PlanFile, Failure> {
    let mut params = args::params(subject)?;
    let names: Vec<String> = params.keys().cloned().collect();
    let is_open = prepared.plan.runbook.params.iter().find(|(name, _)| name.value == INCIDENT_AT);
    let open = is_open.filter(|(name, _)| !params.contains_key(&name.value));
    let mut identity = RunIdentity::new(Mode::Real, state, Params::new());
    if let Some((name, param)) = open
        && param.default.is_none()
        && param.required.unwrap_or(true)
    {
        params.insert(name.value.clone(), Value::String(identity.now.to_string()));
    }
    identity.params = params;
    let plan = prepared.bind(subject, &identity)?;
    let given = Given {
        runbook: subject.runbook.clone(),
        inventories: subject.inventory.files().iter().map(|path| path.display().to_string()).collect(),
        params: names.into_iter().filter_map(|name| Some((name.clone(), plan.params.get(&name)?.clone()))).collect(),
        vars: args::pairs(&subject.var, "variable")?,
    };
    let mut file = PlanFile::new(plan, given, working_folder());
    file.open.extend(open.map(|(name, _)| name.value.clone()));
    Ok(file)
}

fn working_folder() -> String {
    std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default()
}

/// Reads a plan; `None` when the name means something else.
///
/// # Errors
/// Refuses (exit 4) one that was changed after it was made.
pub fn read(name: &str) -> Result<Option<PlanFile>, Failure> {
    let path = Path::new(name);
    if !path.is_file() {
        return Ok(None);
    }
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
    if !PlanFile::is_meant(&text) {
        return Ok(None);
    }
    PlanFile::read(&text).map(Some).map_err(|error| {
        let exit = match &error {
            PlanFileError::Altered => Exit::Refused,
            PlanFileError::NotAPlan(_) | PlanFileError::Format(_) => Exit::Invalid,
        };
        Failure::new(exit, format!("`{name}`: {error}")).help("make it again with `runbook plan -o FILE`")
    })
}

/// Holds a plan against the world as it is now, and gives what its run is bound from.
///
/// # Errors
/// Refuses (exit 4) when anything differs, and names each difference.
pub fn thaw(file: &PlanFile, asked: &Subject) -> Result<Thawed, Failure> {
    let now = args::params(asked)?;
    let (open, closed): (Params, Params) = now.into_iter().partition(|(name, _)| file.open.contains(name));
    let subject = subject(file, asked);
    let prepared = prepare::load_runbook(&subject.runbook, &subject.inventory).map_err(|failure| {
        let help = format!("the plan was made in `{}`; names of files are relative to it", file.folder);
        Failure { exit: Exit::Refused, ..failure }.help(help)
    })?;
    let found = differences(file, &prepared, &subject, closed)?;
    if !found.is_empty() {
        for line in difference::lines(&found) {
            tell!("refused: {line}");
        }
        let made = format!("the plan was made by version {} in `{}`", file.program, file.folder);
        return Err(Failure::new(Exit::Refused, "the world is not as the plan says; nothing was changed")
            .help(format!("{made}; make it again with `runbook plan`, and have it reviewed again")));
    }
    let mut params = file.given.params.clone();
    params.extend(open);
    Ok(Thawed { prepared, subject, params })
}

/// What the plan was bound to, and what is given differently now.
fn subject(file: &PlanFile, asked: &Subject) -> Subject {
    let vars: BTreeMap<String, String> = file
        .given
        .vars
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    let mut var: Vec<String> = vars.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let named = |text: &String| text.split_once('=').map(|(name, _)| name.trim().to_owned());
    var.retain(|text| !asked.var.iter().any(|asked| named(asked) == named(text)));
    var.extend(asked.var.iter().cloned());
    let frozen = InventoryArgs { inventory: file.given.inventories.iter().map(PathBuf::from).collect() };
    let inventory = if asked.inventory.inventory.is_empty() { frozen } else { asked.inventory.clone() };
    Subject {
        runbook: file.given.runbook.clone(),
        environment: asked.environment.clone().or_else(|| Some(file.plan.environment.clone())),
        param: Vec::new(),
        params_file: None,
        var,
        inventory,
        max_parallel: asked.max_parallel.or_else(|| u16::try_from(file.plan.limits.max_parallel).ok()),
    }
}

/// Binds the runbook again as it was bound then, and compares.
fn differences(file: &PlanFile, prepared: &Prepared, subject: &Subject, closed: Params) -> Result<Comparison, Failure> {
    if prepared.counts().0 > 0 {
        prepared.report();
        return Ok(Comparison { files: changed_files(file, prepared), ..Comparison::default() })
            .and_then(|found| if found.is_empty() { prepared.demand_sound().map(|()| found) } else { Ok(found) });
    }
    let mut params = file.given.params.clone();
    for name in &file.open {
        params.extend(
            file.plan.params.get(name).filter(|value| !value.is_null()).map(|value| (name.clone(), value.clone())),
        );
    }
    params.extend(closed);
    let identity = RunIdentity {
        run: file.plan.run.clone(),
        mode: file.plan.mode,
        now: file.plan.started_at,
        scratch: file.plan.scratch.clone(),
        actor: file.plan.actor.clone(),
        params,
    };
    let now = prepared.bind(subject, &identity).map_err(|failure| Failure { exit: Exit::Refused, ..failure })?;
    Ok(compare(&file.plan, &now))
}

/// Names the texts that differ, for a runbook that cannot be bound any more.
fn changed_files(file: &PlanFile, prepared: &Prepared) -> Vec<FileChange> {
    let frozen = |name: &str| file.plan.sources.iter().find(|source| source.name == name);
    let differs = prepared.sources.iter().filter_map(|source| {
        let change = match frozen(&source.name) {
            None => Change::New,
            Some(old) if *old.text != *source.text => Change::Changed,
            Some(_) => return None,
        };
        Some(FileChange { name: source.name.clone(), change, diff: String::new() })
    });
    differs.collect()
}
