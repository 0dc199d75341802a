//! Sub-runbooks: what is said about their files, and which steps the plan makes of them.

use std::collections::BTreeMap;
use std::path::Path;

use runbook::action::{EffectClass, Mode, Registry};
use runbook::base::diagnostic::{Look, RenderStyle, SourceId, render};
use runbook::event::Actor;
use runbook::language::{DiskFiles, LoadRequest, Loaded, MemoryFiles, SourceReader, load};
use runbook::plan::{
    BindError, BindRequest, BoundPlan, Material, Plan, PlannedStep, Section, StepKind, Strictness, build,
};
use serde_json::json;

/// A runbook with what it was loaded from.
struct Tried {
    registry: Registry,
    loaded: Loaded,
    plan: Plan,
    /// What is said about it, as a person reads it.
    said: String,
}

fn tried(files: &dyn SourceReader, root: &str) -> Tried {
    let registry = runbook::actions::registry();
    let request = LoadRequest { runbook: Some(root.to_owned()), ..LoadRequest::default() };
    let loaded = load(&request, files, &registry);
    let file = loaded.sources.iter().position(|source| source.name == root).expect("the root");
    let file = SourceId(u32::try_from(file).expect("a number"));
    let material = Material { registry: &registry, inventory: &loaded.inventory, sources: &loaded.sources, file };
    let (plan, more) = build(loaded.runbook.clone(), &material);
    let found = loaded.diagnostics.clone().and(more);
    let said = render(&found, &loaded.sources, RenderStyle { look: Look::Plain, width: 100 });
    Tried { registry, loaded, plan, said }
}

impl Tried {
    fn bind(&self, mode: Mode, params: &[(&str, &str)]) -> Result<BoundPlan, Vec<BindError>> {
        assert_eq!(self.said, "");
        let request = BindRequest {
            run: "20260128-143002-3fa9c1".parse().expect("an id"),
            mode,
            environment: "default".to_owned(),
            params: params.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect(),
            vars: BTreeMap::new(),
            env_vars: BTreeMap::from([("HOME".to_owned(), "/home/dora".to_owned())]),
            actor: Actor { name: "dora".to_owned(), from: "ops1".to_owned() },
            now: "2026-01-28T15:30:00Z".parse().expect("a time"),
            scratch: "/scratch".into(),
            max_parallel: 4,
        };
        let inventory = self.loaded.inventory.for_environment("default").expect("an inventory");
        runbook::plan::bind(&self.plan, inventory, &self.registry, &self.loaded.sources, request)
    }
}

/// A folder with these files; the first one is the root.
fn files(texts: &[(&str, &str)]) -> MemoryFiles {
    texts.iter().fold(MemoryFiles::default(), |files, (name, lines)| {
        let head = if lines.starts_with("version") { "" } else { "version: 1\n" };
        let name_line = format!("name: {}\n", Path::new(name).file_stem().expect("a name").to_string_lossy());
        files.with(*name, format!("{head}{name_line}{lines}"))
    })
}

fn said(texts: &[(&str, &str)]) -> String {
    tried(&files(texts), texts[0].0).said
}

fn bound(texts: &[(&str, &str)]) -> BoundPlan {
    tried(&files(texts), texts[0].0).bind(Mode::Real, &[]).expect("a plan")
}

fn step<'a>(plan: &'a BoundPlan, id: &str) -> &'a PlannedStep {
    plan.steps.iter().find(|step| step.id.as_str() == id).unwrap_or_else(|| panic!("no step `{id}`"))
}

fn needs(plan: &BoundPlan, id: &str) -> Vec<(String, Strictness)> {
    step(plan, id).needs.iter().map(|edge| (edge.from.to_string(), edge.strictness)).collect()
}

fn ids(plan: &BoundPlan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.id.as_str()).collect()
}

const CHILD: &str = "params: { who: { type: string }, n: { type: int, default: 1 } }\nsteps:\n  - { id: a, run: 'true' }\n  \
                     - { id: b, run: 'true', effect: none, env: { W: \"{{ params.who }} {{ params.n }}\" } }\nfinally:\n  - { id: clean, \
                     run: 'true' }\n  - { id: tell, run: 'true' }\noutputs: { code: \"{{ steps.b.exit_code }}\" }\n";

#[test]
fn the_steps_of_a_sub_runbook_stand_behind_the_one_that_stands_for_them() {
    let root = "steps:\n  - { id: first, run: 'true' }\n  - { id: sub, uses: runbook, with: { path: child.yaml, params: { who: dora } } }\n  \
                - { id: last, run: 'true', env: { C: \"{{ steps.sub.code }}\" } }\n";
    let plan = bound(&[("root.yaml", root), ("child.yaml", CHILD)]);
    assert_eq!(ids(&plan), ["first", "sub", "sub/a", "sub/b", "sub/clean", "sub/tell", "last"]);
    let group = step(&plan, "sub");
    assert_eq!((group.kind, group.effects.class, group.group.as_ref()), (StepKind::Runbook, EffectClass::Write, None));
    assert!(group.effects.targets.is_empty());
    assert_eq!(needs(&plan, "sub"), [("first".to_owned(), Strictness::Settled)]);
    assert_eq!(needs(&plan, "sub/a"), []);
    assert_eq!(needs(&plan, "sub/b"), [("sub/a".to_owned(), Strictness::Settled)]);
    assert_eq!(needs(&plan, "last"), [("sub".to_owned(), Strictness::Success)]);
    for id in ["sub/a", "sub/b", "sub/clean", "sub/tell"] {
        assert_eq!(step(&plan, id).group.as_ref().map(ToString::to_string).as_deref(), Some("sub"), "{id}");
        assert_eq!(step(&plan, id).section, group.section, "{id}");
    }
    let scope = plan.groups.values().next().expect("a group");
    assert_eq!(plan.groups.len(), 1);
    assert_eq!((scope.name.as_str(), scope.file.as_str()), ("child", "child.yaml"));
    assert_eq!(json!(scope.params), json!({ "who": "dora", "n": 1 }));
    assert_eq!(json!(scope.outputs), json!({ "code": "{{ steps.b.exit_code }}" }));
    assert_eq!(plan.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(), ["root.yaml", "child.yaml"]);
}

#[test]
fn the_finally_of_a_sub_runbook_waits_for_any_end_of_its_body() {
    let root = "steps:\n  - { id: sub, uses: runbook, with: { path: child.yaml, params: { who: dora } } }\n";
    let plan = bound(&[("root.yaml", root), ("child.yaml", CHILD)]);
    let any = |ids: &[&str]| ids.iter().map(|id| ((*id).to_owned(), Strictness::Any)).collect::<Vec<_>>();
    assert_eq!(needs(&plan, "sub/clean"), any(&["sub/a", "sub/b"]));
    assert_eq!(needs(&plan, "sub/tell"), any(&["sub/clean", "sub/a", "sub/b"]));
    let always: Vec<&str> = plan.steps.iter().filter(|step| step.always).map(|step| step.id.as_str()).collect();
    assert_eq!(always, ["sub/clean", "sub/tell"]);
}

#[test]
fn sub_runbooks_nest_and_one_file_may_be_used_twice() {
    let root = "phases: [ { id: one }, { id: two } ]\nsteps:\n  \
                - { id: x, phase: one, uses: runbook, with: { path: sub/mid.yaml } }\n  \
                - { id: y, uses: runbook, with: { path: sub/mid.yaml } }\nfinally:\n  \
                - { id: z, uses: runbook, with: { path: leaf.yaml } }\n";
    let mid = "phases: [ { id: two }, { id: three } ]\nsteps:\n  - { id: a, phase: two, uses: runbook, with: { path: ../leaf.yaml } }\n  \
               - { id: b, phase: three, run: 'true', needs: [a] }\n";
    let leaf = "steps:\n  - { id: l, run: 'true', effect: none }\n";
    let plan = bound(&[("root.yaml", root), ("sub/mid.yaml", mid), ("leaf.yaml", leaf)]);
    assert_eq!(ids(&plan), ["x", "x/a", "x/a/l", "x/b", "y", "y/a", "y/a/l", "y/b", "z", "z/l"]);
    let phases: Vec<Option<&str>> = plan.steps.iter().map(|step| step.phase.as_deref()).collect();
    let one = Some("one");
    assert_eq!(phases, [one, one, one, one, None, Some("two"), Some("two"), None, None, None]);
    assert_eq!(step(&plan, "x/a/l").group.as_ref().map(ToString::to_string).as_deref(), Some("x/a"));
    assert_eq!(step(&plan, "x/a").effects.class, EffectClass::None);
    assert_eq!(step(&plan, "z/l").section, step(&plan, "z").section);
    assert_eq!(needs(&plan, "x/b"), [("x/a".to_owned(), Strictness::Success)]);
    let groups: Vec<String> = plan.groups.keys().map(ToString::to_string).collect();
    assert_eq!(groups, ["x", "x/a", "y", "y/a", "z"]);
    assert_eq!(plan.sources.len(), 3);
}

#[test]
fn names_mean_what_they_mean_in_the_file_that_uses_them() {
    let root = "include: [inv.yaml]\nparams: { who: { type: string, default: dora } }\nvars: { mine: root }\npass_env: [HOME]\nsteps:\n  \
                - { id: use, run: 'true', env: { A: \"{{ params.who }} {{ vars.mine }} {{ vars.shared }}\" } }\n  \
                - { id: sub, uses: runbook, with: { path: child.yaml, params: { who: \"{{ params.who }} of {{ vars.mine }}\" } } }\n";
    let child = "include: [elsewhere.yaml]\nparams: { who: { type: string } }\nvars: { mine: \"child of {{ run.name }}\" }\nlocks: [one, { name: two, \
                 on_conflict: queue }]\nsteps:\n  - { id: a, uses: exec, effect: none, locks: [one, three], with: { argv: \
                 [\"echo\", \"{{ params.who }}\", \"{{ vars.mine }}\", \"{{ vars.shared }}\"] } }\n";
    let all = files(&[("root.yaml", root), ("child.yaml", child)])
        .with("inv.yaml", "version: 1\nvars: { shared: everyone }\n");
    let plan = tried(&all, "root.yaml").bind(Mode::Real, &[]).expect("a plan");
    let scope = plan.groups.values().next().expect("a group");
    assert_eq!(json!(scope.params), json!({ "who": "dora of root" }));
    assert_eq!(json!(scope.vars), json!({ "mine": "child of root", "shared": "everyone" }));
    assert_eq!(plan.locks, ["lock:one", "lock:two"]);
    assert_eq!(plan.queued_locks.iter().collect::<Vec<_>>(), ["lock:two"]);
    assert_eq!(step(&plan, "sub/a").locks, ["lock:three"], "the run holds the other one anyway");
}

#[test]
fn what_reverses_a_step_of_a_sub_runbook_stands_with_all_that_reverses_something() {
    let root = "steps:\n  - { id: sub, uses: runbook, with: { path: child.yaml } }\n  - { id: own, run: 'true', undo: { run: 'true' } }\nfinally:\n  \
                - { id: end, uses: runbook, with: { path: child.yaml } }\n";
    let child = "steps:\n  - { id: a, run: 'true', effect: none, undo: { run: 'true' } }\n";
    let plan = bound(&[("root.yaml", root), ("child.yaml", child)]);
    assert_eq!(ids(&plan), ["sub", "sub/a", "own", "sub/a.undo", "own.undo", "end", "end/a"]);
    let undo = step(&plan, "sub/a.undo");
    assert_eq!((undo.section, undo.needs.len()), (Section::Undo, 0));
    assert_eq!(undo.group.as_ref().map(ToString::to_string).as_deref(), Some("sub"), "its names are those of the file");
    assert_eq!(step(&plan, "sub").effects.class, EffectClass::None, "undoing is no effect of going forward");
}

#[test]
fn an_incident_is_inherited_and_a_mode_leaves_the_whole_group_out() {
    let root = "params: { incident_at: { type: timestamp } }\nsteps:\n  - { id: sub, modes: [real], uses: runbook, with: { path: child.yaml } }\n  \
                - { id: other, needs: [], uses: runbook, with: { path: child.yaml } }\n";
    let child = "params: { incident_at: { type: timestamp } }\nsteps:\n  - { id: a, run: 'true', modes: [real] }\n  - { id: b, run: 'true', modes: [drill] }\n";
    let tried = tried(&files(&[("root.yaml", root), ("child.yaml", child)]), "root.yaml");
    let real = tried.bind(Mode::Real, &[("incident_at", "5m ago")]).expect("a plan");
    assert_eq!(ids(&real), ["sub", "sub/a", "other", "other/a"]);
    assert!(real.groups.values().all(|scope| scope.params["incident_at"] == json!("2026-01-28T15:25:00Z")));
    let drill = tried.bind(Mode::Drill, &[]).expect("a plan");
    assert_eq!(ids(&drill), ["other", "other/b"]);
}

#[test]
fn values_are_judged_by_the_type_that_the_sub_runbook_declares_when_they_are_known() {
    let root = "params: { n: { type: string, required: false } }\nsteps:\n  - { id: sub, uses: runbook, with: { path: child.yaml, params: { n: \
                \"{{ params.n }}\" } } }\n";
    let child = "params: { n: { type: int } }\nsteps:\n  - { id: a, run: 'true', env: { N: \"{{ params.n }}\" } }\n";
    let tried = tried(&files(&[("root.yaml", root), ("child.yaml", child)]), "root.yaml");
    let told = |params: &[(&str, &str)]| match tried.bind(Mode::Real, params) {
        Ok(plan) => panic!("{:?}", plan.groups),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
    };
    assert_eq!(told(&[]), ["step `sub`: the parameter `n` of `child.yaml` has no value"]);
    assert_eq!(
        told(&[("n", "many")]),
        ["step `sub`: `child.yaml`: the parameter `n`: a whole number is wanted, not `many`"]
    );
    let plan = tried.bind(Mode::Real, &[("n", "7")]).expect("a plan");
    assert_eq!(plan.groups.values().next().expect("a group").params["n"], json!(7));
}

#[test]
fn the_fingerprint_of_a_group_is_that_of_its_steps() {
    let root = "steps:\n  - { id: sub, uses: runbook, with: { path: child.yaml } }\n  - { id: after, run: 'true' }\n";
    let of = |script: &str| {
        let child = format!("steps:\n  - {{ id: a, run: '{script}' }}\n");
        let plan = bound(&[("root.yaml", root), ("child.yaml", &child)]);
        ["sub", "sub/a", "after"].map(|id| step(&plan, id).fingerprint)
    };
    let (one, same, other) = (of("true"), of("true"), of("false"));
    assert_eq!(one, same);
    assert!(one[0] != other[0] && one[1] != other[1] && one[2] == other[2]);
}

#[test]
fn more_steps_than_a_run_may_have_are_refused_before_they_are_made() {
    let many = |count: usize, path: &str| {
        let step = |n| format!("  - {{ id: s{n}, uses: runbook, with: {{ path: {path} }} }}\n");
        format!("steps:\n{}", (0..count).map(step).collect::<String>())
    };
    let leaf = "steps:\n  - { id: l, run: 'true' }\n";
    let (a, b, c) = (many(100, "b.yaml"), many(100, "c.yaml"), many(100, "leaf.yaml"));
    let said = said(&[("a.yaml", &a), ("b.yaml", &b), ("c.yaml", &c), ("leaf.yaml", leaf)]);
    assert!(said.contains("with all its sub-runbooks this is 20100 steps; 10000 is the limit"), "{said}");
    assert_eq!(said.matches("error[").count(), 1, "{said}");
}

#[test]
fn files_are_found_on_the_disk_beside_the_file_that_names_them() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("parts")).expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write(
        "root.yaml",
        "version: 1\nname: root\nsteps:\n  - { id: s, uses: runbook, with: { path: parts/one.yaml } }\n",
    );
    write(
        "parts/one.yaml",
        "version: 1\nname: one\nsteps:\n  - { id: s, uses: runbook, with: { path: ./two.yaml } }\n",
    );
    write("parts/two.yaml", "version: 1\nname: two\nsteps:\n  - { id: s, run: 'true' }\n");
    let root = folder.path().join("root.yaml").display().to_string();
    let plan = tried(&DiskFiles, &root).bind(Mode::Real, &[]).expect("a plan");
    assert_eq!(ids(&plan), ["s", "s/s", "s/s/s"]);
    assert!(plan.sources[0].name.ends_with("root.yaml") && plan.sources[2].name.ends_with("parts/two.yaml"));
}

macro_rules! shows {
    ($name:ident, $($file:expr => $lines:expr),+ $(,)?) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(said(&[$(($file, $lines)),+]));
        }
    };
}

shows!(
    parameters_that_do_not_fit,
    "root.yaml" => "steps:\n  - id: sub\n    uses: runbook\n    with:\n      path: child.yaml\n      params: { whoo: x, n: many, at: soon }\n",
    "child.yaml" => "params:\n  who: { type: string, description: Whom to greet. }\n  n: { type: int }\n  at: { type: timestamp }\n  incident_at: { type: timestamp }\nsteps:\n  - { id: a, run: 'true', env: { X: \"{{ params.who }} {{ params.n }} {{ params.at }}\" } }\n",
);
shows!(
    values_that_are_not_known_before_the_run,
    "root.yaml" => "secrets: { pg: { env: PG } }\nsteps:\n  - { id: a, run: 'true' }\n  - { id: sub, uses: runbook, with: { path: child.yaml, params: { x: \"{{ steps.a.exit_code }}\", y: \"{{ secrets.pg }}\" } } }\n  - { id: by_name, uses: runbook, with: { path: \"{{ run.mode }}.yaml\" } }\n",
    "child.yaml" => "params: { x: { type: int }, y: { type: string } }\nsteps:\n  - { id: a, run: 'true', env: { X: \"{{ params.x }} {{ params.y }}\" } }\n",
);
shows!(
    what_cannot_be_read_of_a_sub_runbook,
    "root.yaml" => "steps:\n  - { id: sub, uses: runbook, with: { path: child.yaml } }\n  - { id: a, run: 'true', env: { A: \"{{ steps.sub.backpu }}\", B: \"{{ steps.sub.dump }}\", C: \"{{ steps.sub/dump }}\" } }\n",
    "child.yaml" => "steps:\n  - { id: dump, run: 'true' }\noutputs: { backup: \"{{ steps.dump.exit_code }}\" }\n",
);
shows!(
    outputs_that_cannot_be_given,
    "root.yaml" => "secrets: { pg: { env: PG } }\nsteps:\n  - { id: dump, run: 'true' }\noutputs:\n  a: \"{{ steps.dmup.exit_code }}\"\n  b: \"{{ steps.dump.exit_cod }}\"\n  c: \"{{ secrets.pg }}\"\n  d: \"{{ run.outcome }}\"\n  e: \"{{ params.x }} {{ vars.y }} {{ objectives.rto }}\"\n  f: \"{{ steps.dump }}\"\n  g: \"{{ oops\"\n  status: 1\n",
);
shows!(
    runbooks_that_use_each_other,
    "root.yaml" => "steps:\n  - { id: self, uses: runbook, with: { path: ./root.yaml } }\n  - { id: sub, uses: runbook, with: { path: one.yaml } }\n",
    "one.yaml" => "steps:\n  - { id: a, uses: runbook, with: { path: two.yaml } }\n",
    "two.yaml" => "steps:\n  - { id: a, uses: runbook, with: { path: one.yaml } }\n",
);
shows!(
    runbooks_nested_too_deeply,
    "d1.yaml" => "steps:\n  - { id: a, uses: runbook, with: { path: d2.yaml } }\n",
    "d2.yaml" => "steps:\n  - { id: a, uses: runbook, with: { path: d3.yaml } }\n",
    "d3.yaml" => "steps:\n  - { id: a, uses: runbook, with: { path: d4.yaml } }\n",
    "d4.yaml" => "steps:\n  - { id: a, uses: runbook, with: { path: d5.yaml } }\n",
    "d5.yaml" => "steps:\n  - { id: a, uses: runbook, with: { path: d6.yaml } }\n",
    "d6.yaml" => "steps:\n  - { id: a, uses: runbook, with: { path: d7.yaml } }\n",
    "d7.yaml" => "steps:\n  - { id: a, uses: runbook, with: { path: d8.yaml } }\n",
    "d8.yaml" => "steps:\n  - { id: a, uses: runbook, with: { path: d9.yaml } }\n",
    "d9.yaml" => "steps:\n  - { id: a, run: 'true' }\n",
);
shows!(
    a_broken_or_missing_sub_runbook_is_told_in_its_own_file,
    "root.yaml" => "steps:\n  - { id: a, uses: runbook, with: { path: child.yaml } }\n  - { id: b, uses: runbook, with: { path: child.yaml } }\n  - { id: c, uses: runbook, with: { path: nowhere.yaml } }\n  - { id: d, uses: runbook, with: { path: list.yaml } }\n  - { id: e, uses: runbook }\n",
    "child.yaml" => "stores: { primary: { url: 'file:///srv' } }\nsteps:\n  - { id: a, uses: exce }\n  - { id: b, run: 'true', env: { X: \"{{ vars.nope }}\" } }\n",
    "list.yaml" => "vars: {}\n",
);
shows!(
    keys_that_a_sub_runbook_does_not_take,
    "root.yaml" => "steps:\n  - id: a\n    uses: runbook\n    with: { path: child.yaml }\n    for_each: [x]\n    retry: { max_attempts: 2 }\n    timeout: 1m\n    undo: { run: 'true' }\n    on_failure: pause\n  - { id: b, run: 'true', preconditions: [ { uses: runbook, with: { path: child.yaml } } ] }\n",
    "child.yaml" => "steps:\n  - { id: a, run: 'true' }\n",
);
