//! `runbook backups prune`: shows what would go, with a reason on each line, and carries out that very plan.

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use super::open_store::{Shelves, Stores, of_catalog};
use crate::action::{Mode, Unfinished};
use crate::actions::backup::prune::{PlannedPrune, is_abandoned, is_given_up};
use crate::base::units::ByteSize;
use crate::base::{Digest, clock};
use crate::catalog::elsewhere::{self, further};
use crate::catalog::retention::{ClockTrust, Moment, Policy, RetentionPlan, plan};
use crate::catalog::survey::{Holdings, Orphan, holdings};
use crate::cli::again::Again;
use crate::cli::args::Subject;
use crate::cli::invoke::Invocation;
use crate::cli::prepare::{self, RunIdentity};
use crate::cli::screen::Face;
use crate::cli::{Exit, Failure, document, freeze, wiring};
use crate::report::mask_text;

/// Arguments of `backups prune`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups prune --plan                      what would go, and why?\n  runbook backups prune --confirm production        remove it\n  runbook backups prune --source orders --yes       for a timer, where nothing is protected\n  runbook backups prune --plan --json | jq '.[].remove[] | {id, why}'\n\nThe rules stand under `retention` in the inventory; without them nothing is ever pruned. Each place is pruned by a\nrun of its own, with its own journal: `runbook resume RUN` goes on after a crash. What changed since the plan was\nshown stops it; holds are looked at again right before each deletion.\nCode 4: refused, nothing was changed."
)]
pub struct Args {
    #[command(flatten)]
    stores: Stores,
    /// Only backups of this database or source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only show what would go
    #[arg(long)]
    plan: bool,
    /// Also remove what writers left that were killed: folders without a manifest and halves of objects in which nothing was
    /// written for 7 days
    #[arg(long)]
    orphans: bool,
    /// Agree to the plan; in a protected environment this names it
    #[arg(long, value_name = "ENVIRONMENT")]
    confirm: Option<String>,
    /// Agree to the plan where nothing is protected
    #[arg(long)]
    yes: bool,
    /// Prune though a recovery of the database is open; the reason is kept with the run
    #[arg(long, value_name = "REASON")]
    despite_recovery: Option<String>,
    /// Prune though a backup or the history is dated in the future and this clock is right; the reason is kept with the run
    #[arg(long, value_name = "REASON")]
    despite_clock: Option<String>,
    /// Print the plan as JSON; without --plan, events as JSON lines
    #[arg(long)]
    json: bool,
}

/// What is judged as one: everything under one prefix of a store.
struct Judged {
    store: String,
    prefix: String,
    found: Holdings,
    plan: RetentionPlan,
    orphans: Vec<Orphan>,
    unfinished: Vec<Unfinished>,
}

/// Shows the plan and carries it out.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let open_stores = args.stores.open_stores(args.json)?;
    let Some(policy) = Policy::of(&open_stores.site.inventory) else {
        tell!("the inventory has no `retention`, so nothing is ever pruned");
        tell!(
            "  help: say how long backups are kept: `retention: {{ default: {{ keep_within: 30d, keep_last: 7 }} }}`"
        );
        return Ok(Exit::Success);
    };
    let judged = args.judge(&open_stores, &policy)?;
    if args.plan && args.json {
        document::write_json(&judged.iter().map(Judged::document).collect::<Vec<_>>())?;
    } else {
        judged.iter().for_each(|place| place.show(args.json));
    }
    if judged.iter().any(|place| !place.plan.refusals.is_empty()) {
        let help = format!(
            "if this machine's clock is wrong, set it right; if it is right and another one was not, look at what would \
             go then: `{}`",
            args.asserted()
        );
        return Err(Failure::new(Exit::Refused, "the time is in doubt, so nothing is removed").help(help));
    }
    let pending: Vec<&Judged> = judged.iter().filter(|place| !place.is_done(args)).collect();
    if args.plan || pending.is_empty() {
        if pending.is_empty() {
            tell!("nothing to remove");
        }
        return Ok(Exit::Success);
    }
    args.agree(&open_stores)?;
    let mut worst = Exit::Success;
    for place in pending {
        worst = worst.max(args.carry_out(place)?);
    }
    Ok(worst)
}

impl Args {
    fn judge(&self, open_stores: &Shelves, policy: &Policy) -> Result<Vec<Judged>, Failure> {
        let found = open_stores.list()?;
        if found.finish(Exit::Success) != Exit::Success {
            return Err(Failure::new(Exit::Refused, "a store gave no answer, so nothing is planned"));
        }
        let known = match wiring::existing_runs()? {
            Some(runs) => freeze::newest(&runs)?,
            None => None,
        };
        let trust = ClockTrust::by(self.despite_clock.as_ref());
        let mut judged = Vec::new();
        for (store, list) in &found.lists {
            let wanted = |source: &String| self.source.as_ref().is_none_or(|wanted| wanted == source);
            let backups = list.backups.iter().filter(|backup| wanted(&backup.manifest.source));
            let prefixes: BTreeSet<String> = backups.map(|backup| backup.prefix.clone()).collect();
            let lone = self.lone(open_stores, store).filter(|prefix| !prefixes.contains(prefix));
            let lone: BTreeSet<String> = lone.collect();
            for prefix in prefixes.iter().chain(&lone) {
                let prefix = prefix.clone();
                let reader = open_stores.reader(open_stores.open_store(store)?)?;
                let vouched = open_stores.vouched(&*reader)?;
                let found = wiring::block_on(async { holdings(&vouched, &prefix).await })?.map_err(|error| {
                    Failure::new(Exit::Refused, format!("`{prefix}` in `{store}`: {}", of_catalog(&error)))
                })?;
                let now = clock::now();
                let moment = Moment { now, known: known.clone(), trust };
                if lone.contains(&prefix) && found.wal.is_empty() && found.unfinished.is_empty() {
                    continue;
                }
                let mut survey = found.survey(now);
                if let Some(further) = further(&open_stores.site.inventory, (store, &prefix)) {
                    let open = |name: &str| open_stores.site.read_store(name).map_err(|failure| failure.message);
                    let complete = elsewhere::complete(&mut survey, (&further, &prefix), open, now);
                    wiring::block_on(complete)?;
                }
                let plan = plan(&survey, policy, &moment);
                let orphans = found.orphans.iter().filter(|orphan| is_abandoned(orphan, now)).cloned().collect();
                let unfinished = found.unfinished.iter().filter(|one| is_given_up(one, now)).cloned().collect();
                let mut place = Judged { store: store.clone(), prefix, found, plan, orphans, unfinished };
                if let Some(source) = &self.source {
                    place.only(source);
                }
                judged.push(place);
            }
        }
        Ok(judged)
    }

    /// The places in a store that get the WAL of a database and none of its backups.
    fn lone(&self, open_stores: &Shelves, store: &str) -> impl Iterator<Item = String> {
        let inventory = &open_stores.site.inventory;
        let wanted = inventory.databases.iter().filter(|(name, _)| self.source.as_ref().is_none_or(|one| one == *name));
        let prefixes = wanted.map(|(name, entry)| entry.prefix.as_ref().unwrap_or(name));
        prefixes.filter(move |prefix| further(inventory, (store, prefix)).is_some()).cloned()
    }

    /// The plan of the same, by a person who says that the clock is right.
    fn asserted(&self) -> String {
        let stores = self.stores.store.iter().flat_map(|store| ["--store", store]);
        let source = self.source.iter().flat_map(|source| ["--source", source]);
        let orphans = Some("--orphans").filter(|_| self.orphans);
        let words = ["backups", "prune"].into_iter().chain(stores).chain(source).chain(orphans);
        let words = words.chain(["--plan", "--despite-clock", "REASON"]);
        Again::of(&self.stores.inventory, self.stores.environment.as_deref()).line(words)
    }

    /// Asks before anything is removed where nothing is protected; elsewhere the run itself asks.
    fn agree(&self, open_stores: &Shelves) -> Result<(), Failure> {
        let site = &open_stores.site;
        let is_protected = site.inventory.environments.get(&site.environment).is_some_and(|entry| entry.protected);
        if is_protected || self.yes || self.confirm.is_some() {
            return Ok(());
        }
        let refuse = |message: &str| Failure::new(Exit::Refused, message).help("add `--yes`; nothing was changed");
        if self.json || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(refuse("nobody can be asked here whether to remove it"));
        }
        tell_part!("Remove this for good? Type yes to go on: ");
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(_) if line.trim() == "yes" => Ok(()),
            Ok(_) | Err(_) => Err(refuse("the word typed is not `yes`")),
        }
    }

    /// Carries one place's plan out, by a run of its own.
    fn carry_out(&self, place: &Judged) -> Result<Exit, Failure> {
        let text = serde_json::to_string_pretty(&self.runbook(place)).unwrap_or_default();
        let prepared = prepare::load_written(("<prune>", &text), &self.stores.inventory);
        prepared.demand_sound()?;
        let invocation = Invocation::new(Face::from(self.json), self.confirm.clone())?;
        let identity = RunIdentity::new(Mode::Real, invocation.runs.root(), std::collections::BTreeMap::new());
        let subject = Subject {
            runbook: "<prune>".to_owned(),
            environment: self.stores.environment.clone(),
            param: Vec::new(),
            params_file: None,
            var: Vec::new(),
            inventory: self.stores.inventory.clone(),
            max_parallel: None,
        };
        let carried = invocation.fresh(prepared.bind(&subject, &identity)?)?;
        invocation.summary(&carried);
        Ok(carried.exit())
    }

    /// A runbook of one step: JSON is YAML.
    fn runbook(&self, place: &Judged) -> Value {
        let mut with = json!({
            "source": place.prefix,
            "store": place.store,
            "prefix": place.prefix,
            "plan": place.planned(self),
            "orphans": self.orphans,
        });
        if let Some(reason) = &self.despite_recovery {
            with["despite_recovery"] = json!(reason);
        }
        if let Some(reason) = &self.despite_clock {
            with["despite_clock"] = json!(reason);
        }
        // The lock's name says which place it is; a digest keeps it short and free of odd characters.
        let lock = Digest::of(format!("{} {}", place.store, place.prefix).as_bytes()).short();
        json!({
            "version": 1,
            "name": "prune",
            "description": format!("removes what no rule keeps of `{}` in store `{}`", place.prefix, place.store),
            "locks": [format!("prune-{lock}")],
            "steps": [{ "id": "prune", "name": "Remove what no rule keeps", "uses": "backup.prune", "with": with }],
        })
    }
}

impl Judged {
    /// Leaves alone what is of other sources, where several share the place, and what cannot be told apart.
    fn only(&mut self, source: &str) {
        let manifests = || self.found.list.backups.iter().map(|backup| &backup.manifest);
        if manifests().all(|manifest| manifest.source == source) {
            return;
        }
        let clusters = manifests().filter(|manifest| manifest.source != source).filter_map(|m| m.postgres.as_ref());
        let others: BTreeSet<_> = clusters.map(|facts| facts.system_id).collect();
        self.plan.remove.retain(|removed| removed.backup.source == source);
        self.plan.stalled.retain(|stalled| stalled.source == source);
        self.plan.wal.remove.retain(|range| !others.contains(&range.system_id));
        self.orphans.clear();
        self.unfinished.clear();
    }

    fn planned(&self, args: &Args) -> PlannedPrune {
        let orphans = self.orphans.iter().filter(|_| args.orphans).map(|orphan| orphan.folder.clone());
        let unfinished = self.unfinished.iter().filter(|_| args.orphans).map(|one| one.key.to_string());
        PlannedPrune { orphans: orphans.collect(), unfinished: unfinished.collect(), ..PlannedPrune::of(&self.plan) }
    }

    fn is_done(&self, args: &Args) -> bool {
        self.planned(args).is_empty()
    }

    fn show(&self, to_people_only: bool) {
        let line =
            |text: String| if to_people_only { tell!("{}", mask_text(&text)) } else { out!("{}", mask_text(&text)) };
        line(format!("`{}` in store `{}`:", self.prefix, self.store));
        for refusal in &self.plan.refusals {
            line(format!("  refused  {refusal}"));
        }
        for kept in &self.plan.keep {
            let reasons: Vec<String> = kept.reasons.iter().map(ToString::to_string).collect();
            line(format!("  keep    {}  {}", kept.backup.id, reasons.join("; ")));
        }
        for stalled in &self.plan.stalled {
            line(format!("  keep    {stalled}"));
        }
        for damaged in &self.found.list.damaged {
            line(format!("  keep    {}  damaged manifest ({}): only a person removes it", damaged.key, damaged.why));
        }
        for removed in &self.plan.remove {
            line(format!("  remove  {}  {}; {}", removed.backup.id, ByteSize(removed.backup.size_bytes), removed.why));
        }
        for range in &self.plan.wal.remove {
            let (first, last, size) = (range.first, range.last, ByteSize(range.size_bytes));
            line(format!("  remove  WAL {first} to {last}  {} segments, {size}; {}", range.segments, range.why));
        }
        for (system_id, why) in &self.plan.wal.spared {
            line(format!("  keep    WAL of {system_id}  {}", why.as_str()));
        }
        for why in &self.found.spared {
            line(format!("  keep    no manifest in {why}"));
        }
        for orphan in &self.orphans {
            let (count, size) = (orphan.keys.len(), ByteSize(orphan.size_bytes));
            line(format!("  orphan  {}  {count} objects, {size}, no manifest; `--orphans` removes it", orphan.folder));
        }
        for one in &self.unfinished {
            let at = one.touched_at.map(|at| format!(" since {at}")).unwrap_or_default();
            let size = ByteSize(one.size_bytes);
            line(format!("  orphan  {}  {size}, begun and not gone on with{at}; `--orphans` removes it", one.key));
        }
    }

    fn document(&self) -> Value {
        let words = |reasons: &[crate::catalog::retention::KeepReason]| {
            reasons.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let keep = self.plan.keep.iter().map(|kept| {
            let backup = &kept.backup;
            json!({ "id": backup.id, "source": backup.source, "kind": backup.kind, "tier": backup.tier, "reasons": words(&kept.reasons) })
        });
        let remove = self.plan.remove.iter().map(|removed| {
            let backup = &removed.backup;
            json!({ "id": backup.id, "source": backup.source, "kind": backup.kind, "tier": backup.tier,
                "size_bytes": backup.size_bytes, "why": removed.why })
        });
        let wal = self.plan.wal.remove.iter().map(|range| {
            json!({ "system_id": range.system_id.to_string(), "first": range.first.to_string(), "last": range.last.to_string(),
                "segments": range.segments, "size_bytes": range.size_bytes, "why": range.why })
        });
        let spared = self.plan.wal.spared.iter();
        let wal_spared = spared.map(|(cluster, why)| json!({ "system_id": cluster.to_string(), "why": why.as_str() }));
        let orphans = self.orphans.iter().map(
            |orphan| json!({ "folder": orphan.folder, "objects": orphan.keys.len(), "size_bytes": orphan.size_bytes }),
        );
        let unfinished = self
            .unfinished
            .iter()
            .map(|one| json!({ "key": one.key.as_str(), "size_bytes": one.size_bytes, "touched_at": one.touched_at }));
        let damaged = self.found.list.damaged.iter().map(|one| json!({ "key": one.key.as_str(), "why": one.why }));
        json!({
            "store": self.store,
            "prefix": self.prefix,
            "refusals": self.plan.refusals.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "keep": keep.collect::<Vec<_>>(),
            "stalled": self.plan.stalled.iter().map(|one| json!({ "source": one.source, "newest_at": one.newest_at,
                "count": one.count, "size_bytes": one.size_bytes, "what": one.to_string() })).collect::<Vec<_>>(),
            "damaged": damaged.collect::<Vec<_>>(),
            "remove": remove.collect::<Vec<_>>(),
            "wal": wal.collect::<Vec<_>>(),
            "wal_spared": wal_spared.collect::<Vec<_>>(),
            "orphans": orphans.collect::<Vec<_>>(),
            "unfinished": unfinished.collect::<Vec<_>>(),
            "spared": self.found.spared,
        })
    }
}
