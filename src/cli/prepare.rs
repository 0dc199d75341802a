//! From what was typed to a bound plan: find, load, build, bind, and say everything that is wrong.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use super::args::{self, InventoryArgs, Subject};
use super::library::{self, NotFound};
use super::{Exit, Failure, volume, wiring};
use crate::action::{Mode, Registry};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Look, RenderStyle, Severity, SourceId, Sources, render};
use crate::base::{RunId, Timestamp, clock};
use crate::event::Actor;
use crate::language::inventory::{DRILL, EnvironmentError, Inventory, InventoryFile, choose_environment};
use crate::language::source::{DiskFiles, ReadError, SourceReader};
use crate::language::{LoadRequest, Loaded, in_order, is_inventory_text, load};
use crate::plan::{self, BindError, BindRequest, BoundPlan, Material, Plan};

/// A runbook that was loaded, with what it was loaded from.
pub struct Prepared {
    /// The plan; partial when there are errors.
    pub plan: Plan,
    /// The inventory before an environment is chosen.
    pub inventory: InventoryFile,
    /// All texts.
    pub sources: Sources,
    /// Everything that was found.
    pub diagnostics: Diagnostics,
    /// The actions.
    pub registry: Registry,
}

/// Files on the disk, and shipped runbooks under their shown names.
struct Files;

impl SourceReader for Files {
    fn read(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        match Path::new(name).strip_prefix("<shipped>").ok().and_then(Path::to_str).and_then(library::shipped) {
            Some(text) => Ok(text.as_bytes().to_vec()),
            None => DiskFiles.read(name),
        }
    }

    fn by_name(&self, name: &str) -> Option<String> {
        library::by_name(name).map(|path| format!("<shipped>/{path}"))
    }
}

/// Files on the disk, and one that this program wrote itself and that nobody finds.
struct Written<'a> {
    name: &'a str,
    text: &'a str,
}

impl SourceReader for Written<'_> {
    fn read(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        if name == self.name { Ok(self.text.as_bytes().to_vec()) } else { Files.read(name) }
    }

    fn by_name(&self, name: &str) -> Option<String> {
        Files.by_name(name)
    }
}

/// Loads a runbook that this program wrote; nothing is printed.
pub fn load_written((name, text): (&str, &str), inventory: &InventoryArgs) -> Prepared {
    loaded(name.to_owned(), &Written { name, text }, inventory)
}

/// Finds and loads a runbook; nothing is printed.
///
/// # Errors
/// Fails when no single runbook has that name.
pub fn load_runbook(name: &str, inventory: &InventoryArgs) -> Result<Prepared, Failure> {
    let found = library::find(name).map_err(not_found)?;
    Ok(loaded(found.shown().display().to_string(), &Files, inventory))
}

fn loaded(shown: String, files: &dyn SourceReader, inventory: &InventoryArgs) -> Prepared {
    let registry = crate::actions::registry();
    let request = LoadRequest {
        runbook: Some(shown.clone()),
        inventories: names(&inventory.files()),
        fallbacks: names(&InventoryArgs::fallbacks()),
    };
    let loaded = load(&request, files, &registry);
    let file = loaded.sources.iter().position(|source| source.name == shown).and_then(|at| u32::try_from(at).ok());
    let material = Material {
        registry: &registry,
        inventory: &loaded.inventory,
        sources: &loaded.sources,
        file: SourceId(file.unwrap_or_default()),
    };
    let (plan, more) = plan::build(loaded.runbook, &material);
    let diagnostics = in_order(loaded.diagnostics.and(more));
    Prepared { plan, inventory: loaded.inventory, sources: loaded.sources, diagnostics, registry }
}

/// Tells whether a file is an inventory: it has entries of one, and neither `steps` nor a `name`.
pub fn is_inventory(path: &str) -> bool {
    let text = DiskFiles.read(path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.is_some_and(|text| is_inventory_text(&text))
}

/// Loads an inventory alone; nothing is printed.
pub fn load_inventory(path: &str) -> Prepared {
    let registry = crate::actions::registry();
    let request = LoadRequest { inventories: vec![path.to_owned()], ..LoadRequest::default() };
    let loaded = load(&request, &Files, &registry);
    let material = Material {
        registry: &registry,
        inventory: &loaded.inventory,
        sources: &loaded.sources,
        file: SourceId::default(),
    };
    let (plan, _) = plan::build(loaded.runbook, &material);
    Prepared { plan, inventory: loaded.inventory, sources: loaded.sources, diagnostics: loaded.diagnostics, registry }
}

/// Reads the inventory that commands without a runbook share.
pub fn shared(inventory: &InventoryArgs) -> Loaded {
    let mut inventories = names(&inventory.files());
    if inventories.is_empty() {
        inventories = names(&InventoryArgs::fallbacks());
    }
    let registry = crate::actions::registry();
    load(&LoadRequest { inventories, ..LoadRequest::default() }, &Files, &registry)
}

fn names(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

fn not_found(error: NotFound) -> Failure {
    let help = match &error {
        NotFound::None(name, known) => {
            let near = known.iter().filter(|candidate| library::are_near(Path::new(candidate), Path::new(name)));
            let near = near.min_by_key(|candidate| strsim::damerau_levenshtein(candidate, name));
            match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("a path, or one of: {}", known.join(", ")),
            }
        }
        NotFound::Several(..) => "give the path".to_owned(),
    };
    Failure::new(Exit::Usage, error.to_string()).help(help)
}

/// The style for this terminal.
pub fn style() -> RenderStyle {
    let colour = std::io::stderr().is_terminal()
        && wiring::environment_variable("NO_COLOR").is_none_or(|value| value.is_empty());
    RenderStyle { look: if colour { Look::Colour } else { Look::Plain }, width: 100 }
}

/// Prints findings with their places to standard error.
pub fn tell(diagnostics: &Diagnostics, sources: &Sources) {
    if !diagnostics.is_empty() {
        tell_part!("{}", render(diagnostics, sources, style()));
    }
}

impl Prepared {
    /// Prints what was found to standard error.
    pub fn report(&self) {
        tell(&self.diagnostics, &self.sources);
    }

    /// Counts errors and warnings.
    pub fn counts(&self) -> (usize, usize) {
        let count = |severity| self.diagnostics.iter().filter(|found| found.severity == severity).count();
        (count(Severity::Error), count(Severity::Warning))
    }

    /// Stops (exit 3) when there are errors.
    pub fn demand_sound(&self) -> Result<(), Failure> {
        // Notes are for whoever writes the files, not for a run; and where the copies of an inventory's databases lie
        // changes nothing of this run: `check` and `status` say it, and not every command of an incident.
        let concerns = |found: &&Diagnostic| found.severity != Severity::Note && found.code != Code::CopiesOnOneMachine;
        let told = self.diagnostics.iter().filter(concerns).cloned().collect();
        tell(&told, &self.sources);
        let (errors, _) = self.counts();
        if errors == 0 {
            return Ok(());
        }
        let plural = if errors == 1 { "error" } else { "errors" };
        Err(Failure::new(Exit::Invalid, format!("{errors} {plural}; nothing was run"))
            .help("`runbook explain CODE` says more about a code"))
    }

    /// Chooses the environment of a run.
    pub fn environment(&self, mode: Mode, asked: Option<&str>) -> Result<String, Failure> {
        if mode == Mode::Drill {
            return if self.inventory.environments.contains_key(DRILL) {
                Ok(DRILL.to_owned())
            } else {
                Err(Failure::new(Exit::Refused, "no environment `drill` is defined; nothing was changed").help(
                    "define `environments.drill` in the inventory, with `databases: { NAME: { scratch: true } }`",
                ))
            };
        }
        let chosen = choose_environment(&self.inventory, asked).map_err(|error| {
            let help = match &error {
                EnvironmentError::Unknown { .. } => "name one of these with `-e`",
                EnvironmentError::Several { .. } => "name one with `-e NAME`, or mark one with `default: true`",
            };
            Failure::new(Exit::Usage, error.to_string()).help(help)
        })?;
        // Only a drill is guarded: what the environment `drill` does not name is production's.
        if chosen == DRILL {
            let message = "the environment `drill` is for `runbook drill`; nothing was changed";
            return Err(Failure::new(Exit::Usage, message).help("use `runbook drill`, or name another one with `-e`"));
        }
        Ok(chosen)
    }

    /// The inventory as an environment sees it. What a drill's environment does not name is read-only to it.
    pub fn seen_by(&self, environment: &str) -> Result<Inventory, Failure> {
        let mut seen = self.inventory.for_environment(environment).map_err(|faults| {
            tell_part!("{}", render(&faults, &self.sources, style()));
            Failure::new(Exit::Invalid, format!("the inventory of environment `{environment}` is not sound"))
        })?;
        if environment == DRILL {
            let named = seen.environments.get(DRILL).map(|drill| drill.stores.clone()).unwrap_or_default();
            for (name, store) in &mut seen.stores {
                store.read_only |= !named.contains_key(name);
            }
        }
        volume::found(seen)
    }

    /// Binds the plan to what was given.
    pub fn bind(&self, subject: &Subject, identity: &RunIdentity) -> Result<BoundPlan, Failure> {
        let environment = self.environment(identity.mode, subject.environment.as_deref())?;
        self.bind_in(subject, identity, environment)
    }

    /// Captures what the runbook and those it uses list under `pass_env`, and nothing else.
    fn passed_environment(&self) -> std::collections::BTreeMap<String, String> {
        let runbooks = self.plan.runbooks();
        let names = runbooks.iter().flat_map(|runbook| &runbook.pass_env).map(|name| name.value.clone());
        names.filter_map(|name| Some((name.clone(), wiring::environment_variable(&name)?))).collect()
    }

    /// Binds the plan in an environment already chosen.
    pub fn bind_in(
        &self,
        subject: &Subject,
        identity: &RunIdentity,
        environment: String,
    ) -> Result<BoundPlan, Failure> {
        self.bound(subject, identity, environment)?.map_err(bind_failure)
    }

    /// The same, without a word about what stands in the way.
    pub fn bound(
        &self,
        subject: &Subject,
        identity: &RunIdentity,
        environment: String,
    ) -> Result<Result<BoundPlan, Vec<BindError>>, Failure> {
        let inventory = self.seen_by(&environment)?;
        let request = BindRequest {
            run: identity.run.clone(),
            mode: identity.mode,
            environment,
            params: identity.params.clone(),
            vars: args::pairs(&subject.var, "variable")?,
            env_vars: self.passed_environment(),
            actor: identity.actor.clone(),
            now: identity.now,
            scratch: identity.scratch.clone(),
            max_parallel: subject.max_parallel.map_or_else(default_parallel, usize::from),
        };
        let bound = plan::bind(&self.plan, inventory, &self.registry, &self.sources, request);
        if let Ok(plan) = &bound {
            volume::demand(plan)?;
        }
        Ok(bound)
    }
}

/// What makes a run this run.
#[derive(Debug, Clone)]
pub struct RunIdentity {
    /// Its id.
    pub run: RunId,
    /// Its mode.
    pub mode: Mode,
    /// Its start.
    pub now: Timestamp,
    /// Its folder for scratch files.
    pub scratch: PathBuf,
    /// Its parameters.
    pub params: std::collections::BTreeMap<String, serde_json::Value>,
    /// Who started it.
    pub actor: Actor,
}

impl RunIdentity {
    /// A new run that starts now, with scratch files below the state folder.
    pub fn new(mode: Mode, state: &Path, params: std::collections::BTreeMap<String, serde_json::Value>) -> Self {
        let now = clock::now();
        let run = RunId::generate(now);
        let scratch = state.join("scratch").join(run.as_str());
        Self { run, mode, now, scratch, params, actor: wiring::actor() }
    }
}

fn default_parallel() -> usize {
    std::thread::available_parallelism().map_or(4, usize::from).max(4)
}

/// Says everything that is wrong with the values; the worst decides the exit code.
fn bind_failure(errors: Vec<BindError>) -> Failure {
    let mut exit = Exit::Usage;
    for error in &errors {
        tell!("error: {error}");
        match error {
            BindError::Usage { help, .. } => tell!("  help: {help}"),
            BindError::Step { pointer, help, .. } | BindError::Rule { pointer, help, .. } => {
                exit = Exit::Invalid;
                if !pointer.is_empty() {
                    tell!("  argument: {}", pointer.trim_start_matches('/').replace('/', "."));
                }
                if let Some(help) = help {
                    tell!("  help: {help}");
                }
            }
        }
    }
    Failure::said(exit)
}
