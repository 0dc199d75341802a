//! The action: its arguments, its check, its one attempt.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::apply::{Target, Work};
use super::frozen;
use super::plan::{Allowance, Compare, Plan};
use super::side::{Filter, Item, Side};
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, RunContext, Surroundings,
};
use crate::actions::store::body::until_cancelled;
use crate::actions::store::carry::Proof;
use crate::actions::store::copy::four;
use crate::actions::store::glob::Glob;
use crate::actions::store::place::{TreePlace, TreeSpot};
use crate::event::Progress;
use crate::wal::Keys;

/// Names of what differs that the error tells.
const FIRST: usize = 5;

/// Makes a tree like another.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sync;

/// The arguments of `store.sync`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncParams {
    /// What is copied: a folder or the objects under a prefix. Empty or missing is refused.
    pub from: TreePlace,
    /// What is made like it.
    pub to: TreePlace,
    /// How two that have the same name are compared. Default `digest`.
    #[serde(default)]
    pub compare: Compare,
    /// What becomes of what the target has with other content: `replace` (default), or `refuse`: it stays as it
    /// is, what is new is copied, and then the step fails and names it. For what never changes, such as backups. Archived
    /// WAL that only was packed or mended otherwise is the same, and the beginning of a segment gives way to the segment.
    #[serde(default)]
    pub changed: Changed,
    /// Deletes at the target what the source does not have, after everything is copied.
    #[serde(default)]
    pub delete: bool,
    /// The most that may be deleted; a plan that would delete more is refused as a whole. Default `10%`.
    #[serde(default)]
    pub max_delete: Option<Allowance>,
    /// Only names that fit one of these patterns, on both sides.
    #[serde(default)]
    pub include: Vec<Glob>,
    /// No names that fit one of these patterns: they are neither copied nor deleted.
    #[serde(default)]
    pub exclude: Vec<Glob>,
    /// Names that fit one of these patterns come after all others, and only where they were there before the others were
    /// listed: what makes the others count, such as a backup's `manifest.json`.
    #[serde(default)]
    pub last: Vec<Glob>,
    /// What is done about symbolic links in a source folder. Default `refuse`.
    #[serde(default)]
    pub symlinks: Symlinks,
    /// How each arrival in a store is proven. Default `read_back`.
    #[serde(default)]
    pub proof: Proof,
    /// How many are compared and copied at once. Default 4.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 64))]
    pub parallel: u32,
}

/// What becomes of what both sides have and the target has otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// It is made like the source.
    #[default]
    Replace,
    /// It stays as it is; what is new is copied, and then the step fails.
    Refuse,
}

/// What is done about symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Symlinks {
    /// One is an error.
    #[default]
    Refuse,
    /// They are left out.
    Skip,
    /// What they lead to is copied in their place.
    Follow,
}

/// The outputs of `store.sync`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncOutput {
    /// How many were not there before.
    pub created: u64,
    /// How many had other content.
    pub replaced: u64,
    /// How many were deleted.
    pub deleted: u64,
    /// How many were the same already.
    pub same: u64,
    /// Bytes copied.
    pub copied_bytes: u64,
}

impl SyncParams {
    fn spots(&self) -> Result<(TreeSpot, TreeSpot), Vec<ParamFault>> {
        match (self.from.spot("/from"), self.to.spot("/to")) {
            (Ok(from), Ok(to)) if from.overlaps(&to) => {
                Err(vec![ParamFault::new("/to", "one of the two places lies in the other")])
            }
            (Ok(from), Ok(to)) => Ok((from, to)),
            (from, to) => Err([from.err(), to.err()].into_iter().flatten().collect()),
        }
    }

    fn filter(&self) -> Filter<'_> {
        Filter { include: &self.include, exclude: &self.exclude, symlinks: self.symlinks }
    }

    /// At the target a link is never followed, and one that is there stays.
    fn target_filter(&self) -> Filter<'_> {
        Filter { symlinks: Symlinks::Skip, ..self.filter() }
    }

    /// Whether a name comes after all others.
    fn is_last(&self, name: &str) -> bool {
        self.last.iter().any(|pattern| pattern.fits(name))
    }

    /// Lists the source. What comes last and was committed meanwhile waits for the next time: what it makes count may not
    /// have been listed.
    async fn listed(&self, from: &Side) -> Result<Option<Vec<Item>>, ActionError> {
        if self.last.is_empty() {
            return from.list(self.filter()).await;
        }
        let Some(before) = from.list(self.filter()).await? else { return Ok(None) };
        let known: BTreeSet<String> = before.into_iter().map(|item| item.name).collect();
        let now = from.list(self.filter()).await?;
        let keeps = |item: &Item| !self.is_last(&item.name) || known.contains(&item.name);
        Ok(now.map(|items| items.into_iter().filter(keeps).collect()))
    }

    /// Lists both sides and compares them. Refuses what would do harm; nothing is changed.
    async fn plan(&self, from: &Side, to: &Side, about: &Surroundings) -> Result<Plan, ActionError> {
        let place = self.from.known()?;
        let source = self.listed(from).await?.ok_or_else(|| {
            ActionError::fatal(format!("the source `{place}` is not there")).help("is its disk mounted?")
        })?;
        if source.is_empty() {
            return Err(ActionError::fatal(format!("the source `{place}` has nothing to copy"))
                .help("an empty source is never mirrored; look whether it is mounted and whether the patterns fit"));
        }
        let target: Vec<Item> = to.list_target(self.target_filter()).await?;
        if self.delete
            && let Some(freeze) = frozen::open(from, to).await?
        {
            return Err(ActionError::fatal(freeze.fact()).help(frozen::help(&freeze)));
        }
        let mut plan = Plan::make((from, to), (source, target), self.compare, self.parallel as usize).await?;
        match self.changed {
            Changed::Replace => {}
            Changed::Refuse => {
                plan.replace_nothing(|name| self.is_last(name));
                let settings = self.from.store.as_ref().and_then(|store| about.inventory.stores.get(store.as_str()));
                let keys = Keys { settings, secrets: about.secrets.as_ref() };
                plan.settle((from, to), keys, self.parallel as usize).await?;
            }
        }
        let allowed = self.max_delete.unwrap_or_default();
        if !self.delete {
            plan.delete.clear();
        } else if !allowed.covers(plan.delete.len(), plan.at_target) {
            let fact = format!(
                "{} of {} at the target would be deleted, more than `max_delete: {allowed}` allows",
                plan.delete.len(),
                plan.at_target
            );
            let first: Vec<&str> = plan.delete.iter().take(5).map(|item| item.name.as_str()).collect();
            let help = format!("nothing was changed; the first are {}; is the source whole?", first.join(", "));
            return Err(ActionError::fatal(fact).help(help));
        }
        Ok(plan)
    }
}

/// What is not copied over what is there; `None` where nothing differs.
fn different(plan: &Plan) -> Option<(String, String)> {
    let first: Vec<String> = plan.differ.iter().take(FIRST).map(|item| format!("`{}`", item.name)).collect();
    let more = match plan.differ.len().checked_sub(first.len())? {
        0 if first.is_empty() => return None,
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let fact = format!(
        "{} at the target have other content than at the source: {}{more}",
        plan.differ.len(),
        first.join(", ")
    );
    let untold: String = plan.untold.iter().take(FIRST).map(|why| format!("; {why}")).collect();
    let help = format!(
        "these stay as they are, all else that is new is copied; either side may be damaged or tampered with: find out which \
         is right, and move what is wrong away{untold}"
    );
    Some((fact, help))
}

impl Action for Sync {
    const SPEC: ActionSpec = ActionSpec {
        name: "store.sync",
        summary: "Makes a folder or a prefix like another: plans and tells first, proves every copy, deletes last and only when said.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "A folder into a store",
                with: "from: { path: /srv/media }\nto: { store: primary, prefix: media/ }",
            },
            Example {
                title: "And back, where things may be deleted",
                with: "from: { store: primary, prefix: media/ }\nto: { path: /srv/media }\ndelete: true\nmax_delete: 5%\nexclude: ['*.tmp', 'cache/**']",
            },
            Example {
                title: "What never changes, to another place: a difference is an error",
                with: "from: { store: primary, prefix: media/ }\nto: { store: primary, prefix: copies/media/ }\nchanged: refuse",
            },
            Example {
                title: "From store to store, by size and time",
                with: "from: { store: primary, prefix: media/ }\nto: { store: primary, prefix: copies/media/ }\ncompare: size_and_time\nparallel: 16\nproof: sent",
            },
        ],
    };
    type Params = SyncParams;
    type Output = SyncOutput;

    fn effects(&self, params: &SyncParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let (from, to) = params.spots()?;
        if params.max_delete.is_some() && !params.delete {
            let fault = ParamFault::new("/max_delete", "nothing is deleted without `delete: true`");
            return Err(vec![fault]);
        }
        let (class, access) = match (params.changed, params.delete) {
            (Changed::Refuse, false) => (EffectClass::Write, Access::Write),
            (Changed::Refuse, true) | (Changed::Replace, _) => (EffectClass::Destroy, Access::Destroy),
        };
        Ok(Effects::of(class).target(Access::Read, from.target(cx)).target(access, to.target(cx)))
    }

    fn by_hand(&self, params: &SyncParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok((from, to)) = params.spots() else { return Vec::new() };
        let (from, to) = (from.shown(cx), to.shown(cx));
        if from.contains("://") || to.contains("://") {
            return vec![remark(&format!("make {to} like {from} with the store's own tool; look at its plan first"))];
        }
        let (from, to) = (format!("{}/", from.trim_end_matches('/')), format!("{}/", to.trim_end_matches('/')));
        let words = |dry: &[&'static str]| {
            let mut words = vec!["rsync", "-rt", "--checksum"];
            words.extend(dry);
            words.extend((params.changed == Changed::Refuse).then_some("--ignore-existing"));
            words.extend(params.delete.then_some("--delete-after"));
            command_line(words.into_iter().chain([from.as_str(), to.as_str()]))
        };
        vec![remark("look first"), words(&["--dry-run", "--itemize-changes"]), words(&[])]
    }

    async fn check(&self, params: &SyncParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let side = |spot: TreeSpot| -> Result<Side, ActionError> {
            Ok(match spot {
                TreeSpot::Folder(root) => Side::Folder { files: cx.host.read_files(), root },
                TreeSpot::Objects(store, prefix) => Side::Store { store: cx.store(store.as_str())?, prefix },
            })
        };
        let (from, to) = (side(params.from.known()?)?, side(params.to.known()?)?);
        // What is frozen is refused ahead of the step, too.
        if params.delete {
            match frozen::open(&from, &to).await {
                Ok(None) => {}
                Ok(Some(freeze)) => return Ok(Findings::default().refuse(freeze.fact(), frozen::help(&freeze))),
                Err(error) if cx.ahead => return Ok(Findings::default().pending(error.to_string())),
                Err(error) => return Ok(refused(&error)),
            }
        }
        match params.plan(&from, &to, &cx.about).await {
            Ok(plan) => {
                let findings = Findings::default().pass(plan.said());
                Ok(match different(&plan) {
                    Some((fact, help)) => findings.warn(fact, help),
                    None => findings,
                })
            }
            Err(error) if cx.ahead => Ok(Findings::default().pending(error.to_string())),
            Err(error) => Ok(refused(&error)),
        }
    }

    async fn run(&self, params: &SyncParams, cx: &RunContext) -> Result<SyncOutput, ActionError> {
        let from = match params.from.known()? {
            TreeSpot::Folder(root) => Side::Folder { files: cx.host.read_files(), root },
            TreeSpot::Objects(store, prefix) => {
                let store = cx.store(store.as_str())?;
                Side::Store { store: store as Arc<dyn crate::action::ReadStore>, prefix }
            }
        };
        let to = match params.to.known()? {
            TreeSpot::Folder(root) => Target::Folder { files: cx.host.files(), root },
            TreeSpot::Objects(store, prefix) => Target::Store { store: cx.store(store.as_str())?, prefix },
        };
        let work = Work { from, to, proof: params.proof, parallel: params.parallel as usize, cx };
        until_cancelled(cx, carry_out(params, work)).await
    }
}

fn refused(error: &ActionError) -> Findings {
    let help = error.info().help.clone().unwrap_or_else(|| "nothing was changed".to_owned());
    Findings::default().refuse(error.to_string(), help)
}

async fn carry_out(params: &SyncParams, work: Work<'_>) -> Result<SyncOutput, ActionError> {
    let cx = work.cx;
    cx.reporter.progress(Progress::Doing { text: "comparing both sides".to_owned() });
    let plan = params.plan(&work.from, &work.to.side(), &cx.about).await?;
    cx.reporter.note(plan.said(), plan.data());
    work.copy(&plan, |name| params.is_last(name)).await?;
    if let Some((fact, help)) = different(&plan) {
        return Err(ActionError::fatal(fact).help(help));
    }
    work.delete(&plan).await?;
    Ok(SyncOutput {
        created: plan.create.len() as u64,
        replaced: plan.replace.len() as u64,
        deleted: plan.delete.len() as u64,
        same: plan.same,
        copied_bytes: plan.copied_bytes(),
    })
}
