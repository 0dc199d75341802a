//! What a person reads when the steps of a runbook do not fit together, with the real actions.

use runbook::base::diagnostic::{Look, RenderStyle, SourceId, render};
use runbook::language::{LoadRequest, MemoryFiles, load};
use runbook::plan::{Material, build};

/// Checks a runbook with these lines after its head.
fn body(lines: &str) -> String {
    let registry = runbook::actions::registry();
    let text = format!(
        "version: 1\nname: restore\nsecrets: {{ pg: {{ env: PG }} }}\nstores: {{ primary: {{ url: \"file:///srv\" }} }}\n\
         databases: {{ orders: {{ pgdata: /srv/orders, store: primary }} }}\n{lines}"
    );
    let files = MemoryFiles::default().with("restore.yaml", text);
    let request = LoadRequest { runbook: Some("restore.yaml".to_owned()), ..LoadRequest::default() };
    let loaded = load(&request, &files, &registry);
    let material =
        Material { registry: &registry, inventory: &loaded.inventory, sources: &loaded.sources, file: SourceId(0) };
    let (_, more) = build(loaded.runbook, &material);
    let mut diagnostics = loaded.diagnostics;
    diagnostics.extend(more);
    render(&diagnostics, &loaded.sources, RenderStyle { look: Look::Plain, width: 100 })
}

macro_rules! shows {
    ($name:ident, $lines:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(body($lines));
        }
    };
}

shows!(
    unknown_step_and_self_need,
    "steps:\n  - { id: first, run: 'true' }\n  - { id: second, needs: [frist], run: 'true' }\n  - { id: third, needs: [third], run: 'true' }\n"
);
shows!(
    cycle,
    "steps:\n  - { id: a, needs: [c], run: 'true' }\n  - { id: b, needs: [a], run: 'true' }\n  - { id: c, needs: [b], run: 'true' }\n"
);
shows!(
    unknown_template_names,
    "params: { database: { type: database } }\nsteps:\n  - id: a\n    run: echo\n    env:\n      A: \"{{ params.databse }}\"\n      B: \"{{ parms.database }}\"\n      C: \"{{ secrets.pq }}\"\n      D: \"{{ run.nmae }}\"\n      E: \"{{ params.database|nope }}\"\n      F: \"{{ params.database \"\n"
);
shows!(
    not_an_ancestor_and_unknown_output,
    "steps:\n  - id: find\n    uses: backup.find\n    with: { database: orders, kind: postgres.base }\n  - id: aside\n    needs: []\n    uses: postgres.restore_base\n    with: { database: orders, backup: \"{{ steps.find.backup }}\" }\n  - id: after\n    needs: [find]\n    uses: postgres.restore_base\n    with: { database: orders, backup: \"{{ steps.find.bakup }}\" }\n"
);
shows!(
    for_each_over_what_gives_no_items,
    "vars: { tables: [a, b] }\nsteps:\n  - { id: a, for_each: vars.tables, run: 'true' }\n  - { id: b, for_each: \"x {{ vars.tables }}\", run: 'true' }\n  - { id: c, for_each: 3, max_parallel: 0, run: 'true' }\n  - { id: d, max_parallel: 2, run: 'true' }\n  - { id: e, for_each: , run: 'true' }\n  - { id: f, for_eahc: [a], run: 'true' }\n  - { id: g, for_each: [a, b, a, 1.0, 1.0, { a: 1 }, { a: 1 }], run: 'true' }\n"
);
shows!(
    item_where_there_is_none_and_where_a_target_is_named,
    "steps:\n  - { id: a, run: 'true', env: { T: \"{{ item }}\" } }\n  - id: b\n    for_each: [\"{{ item_key }}\", x]\n    when: item == 'x'\n    preconditions: [ { that: item_key == 'x' } ]\n    uses: postgres.stop\n    with: { database: \"{{ item }}\" }\n  - id: c\n    for_each: { x: 1 }\n    run: 'true'\n    env: { OK: \"{{ item }} {{ item_key }}\", NO: \"{{ event.kind }}\" }\n    targets: [ { path: \"/srv/{{ item_key }}\" } ]\n    locks: [\"t-{{ item }}\"]\n    undo: { run: 'true', env: { OK: \"{{ item.name }}\" } }\n"
);
shows!(
    what_the_items_of_a_fan_out_may_read,
    "steps:\n  - id: a\n    for_each: { a: \"{{ steps.b.stdout }}\", c: \"{{ secrets.pg }}\", d: [\"{{ params.zz }}\"] }\n    run: 'true'\n  - { id: b, for_each: \"{{ steps.a.stdot }}\", run: 'true', env: { X: \"{{ items }}\" } }\n"
);
shows!(
    outputs_of_a_fan_out_and_of_a_program,
    "steps:\n  - { id: many, for_each: [a], run: 'true', outputs: { size: text } }\n  - id: reader\n    run: 'true'\n    env:\n      A: \"{{ steps.many.size }}\"\n      B: \"{{ steps.many.keys }}\"\n      C: \"{{ steps.many.stdout }}\"\n      D: \"{{ steps.many.sizes }}\"\n      E: \"{{ steps.reader2.keys }}\"\n  - { id: reader2, run: 'true', env: { F: \"{{ steps.reader.keys }}\" } }\n"
);
shows!(
    declared_outputs_that_cannot_be,
    "steps:\n  - id: a\n    run: 'true'\n    outputs:\n      stdout: text\n      a-b: text\n      all: txt\n      none:\n      path: { json: .a.b }\n      bad: { regex: '(' }\n      two: { json: /a, regex: b }\n      typo: { jsn: /a }\n      late: { regex: '{{ steps.a.x }}' }\n  - { id: b, uses: wait, with: { within: 1s, file: /srv/x }, outputs: { x: text }, creates: [ { name: y, destroy: 'true' } ] }\n  - { id: c, uses: exec, with: { argv: ['true'], outputs: { x: text } } }\n  - { id: d, for_each: [1], run: 'true', outputs: { keys: lines } }\n"
);
shows!(
    creations_without_a_name_of_their_own,
    "steps:\n  - { id: a, run: 'true', creates: [ { name: copy, destroy: 'rm -rf x' }, { name: Copy 2, destroy: '' }, { name: t, destroy: x, ttl: 4 } ] }\n  - { id: b, run: 'true', creates: [ { name: copy, destroy: 'true', tll: 1h }, { destroy: 'true' } ] }\nfinally:\n  - { id: c, run: 'true', creates: [ { name: copy, destroy: 'true' } ] }\n"
);
shows!(
    an_undo_that_cannot_be,
    "steps:\n  - id: a\n    run: 'true'\n    outputs: { place: text }\n    undo: { run: 'true', env: { P: \"{{ steps.a.place }}\", Q: \"{{ steps.b.stdout }}\", R: \"{{ steps.a.plce }}\" } }\n  - { id: b, run: 'true', env: { X: \"{{ steps.b.stdout }}\" }, undo: { with: { x: 1 }, needs: [a], retry: { max_attempts: 0 } } }\n  - { id: c, run: 'true', undo: { uses: servce.start, with: { service: x } } }\n  - { id: d, run: 'true', undo: { id: e, uses: postgres.stop, with: { database: \"{{ steps.a.place }}\" } } }\n  - { id: f, run: 'true', undo: 'rm x' }\n  - { id: g, run: 'true', undo: {} }\n"
);
shows!(
    locks_and_variables_of_the_environment,
    "pass_env: [REGION, REGION, 9TO5, 'A-B', HOME]\nlocks: [nightly, { name: nightly, on_conflict: queue }, { name: x, on_conflict: wait }, '', \"{{ params.x }}\", { on_conflict: fail }]\nsteps:\n  - { id: a, run: 'true', locks: [x, x, \"{{ run.elapsed }}\", \"{{ vars.no }}\", ' '], env: { A: \"{{ env_vars.REGOIN }}\", B: \"{{ env_vars }}\", C: \"{{ env_vars.HOME }}\" } }\n"
);
shows!(
    unused_variable_of_the_environment,
    "pass_env: [REGION]\nsteps:\n  - { id: a, uses: wait, with: { within: 1s, file: /srv/x } }\n"
);
shows!(
    late_target_and_index,
    "steps:\n  - id: find\n    uses: backup.find\n    with: { database: orders, kind: postgres.base }\n  - id: stage\n    uses: postgres.restore_base\n    with: { database: \"{{ steps.find.backup.database }}\", backup: \"{{ steps['find'].backup }}\" }\n"
);
shows!(
    secret_in_argv,
    "steps:\n  - id: a\n    uses: exec\n    with: { argv: [psql, \"--password={{ secrets.pg }}\"] }\n"
);
shows!(
    a_precondition_that_changes_something,
    "steps:\n  - id: a\n    run: 'true'\n    preconditions:\n      - { uses: exec, with: { argv: ['true'] } }\n      - { uses: store.delete, with: { store: primary, key: k } }\n"
);
shows!(
    names_in_declared_targets,
    "params: { place: { type: string } }\nsteps:\n  - id: find\n    uses: backup.find\n    with: { database: orders, kind: postgres.base }\n  - id: a\n    run: 'true'\n    targets: [ { path: \"{{ params.place }}\" }, { path: \"{{ params.plce }}\" }, { database: \"{{ steps.find.backup.database }}\" } ]\n"
);
shows!(unused_param, "params: { forgotten: { type: string } }\nsteps:\n  - { id: a, run: 'true' }\n");
shows!(
    a_broken_step_does_not_cascade,
    "steps:\n  - { id: broken, nope: 1, run: 'true' }\n  - { id: next, needs: [broken], run: 'true', when: steps.broken.exit_code == 0 }\n"
);

#[test]
fn an_approval_that_nobody_can_give_or_nobody_has_to_is_refused() {
    let text = body(
        "environments: { production: { protected: true } }\nsteps:\n  - { id: a, uses: approval, with: { prompt: Go?, approvers: [ada, ada], quorum: 2 } }\n  - { id: b, uses: approval, with: { prompt: Go?, timeout: 5m, on_timeout: continue } }\n  - { id: c, run: 'true', preconditions: [{ uses: approval, with: { prompt: Go? } }] }\n",
    );
    assert!(text.contains("a quorum of `2` cannot be reached by 1 approvers"), "{text}");
    assert!(text.contains("goes on without an approval"), "{text}");
    assert!(text.contains("`approval` is made by people"), "{text}");
    let sound =
        body("steps:\n  - { id: b, uses: approval, with: { prompt: Go?, timeout: 5m, on_timeout: continue } }\n");
    assert!(!sound.contains("RB0111"), "{sound}");
}
