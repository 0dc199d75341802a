//! What a person reads when the steps of a runbook do not fit together, with the real actions.

use runbook::action::Registry;
use runbook::base::diagnostic::{Look, RenderStyle, SourceId, render};
use runbook::language::{LoadRequest, MemoryFiles, Vocabulary, load};
use runbook::plan::{Material, build};
use serde_json::Value;

struct Words<'a>(&'a Registry);

impl Vocabulary for Words<'_> {
    fn actions(&self) -> Vec<String> {
        self.0.names().map(str::to_owned).collect()
    }

    fn params_schema(&self, action: &str) -> Option<Value> {
        self.0.get(action).map(|action| action.params_schema())
    }

    fn output_schema(&self, action: &str) -> Option<Value> {
        self.0.get(action).map(|action| action.output_schema())
    }
}

/// Checks a runbook with these lines after its head.
fn body(lines: &str) -> String {
    let registry = runbook::actions::registry();
    let text = format!(
        "version: 1\nname: restore\nsecrets: {{ pg: {{ env: PG }} }}\nstores: {{ primary: {{ url: \"file:///srv\" }} }}\n\
         databases: {{ orders: {{ pgdata: /srv/orders, store: primary }} }}\n{lines}"
    );
    let files = MemoryFiles::default().with("restore.yaml", text);
    let request = LoadRequest { runbook: Some("restore.yaml".to_owned()), ..LoadRequest::default() };
    let loaded = load(&request, &files, &Words(&registry));
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
    assert!(text.contains("which a protected environment forbids"), "{text}");
    assert!(text.contains("`approval` is made by people"), "{text}");
    let sound = body("steps:\n  - { id: b, uses: approval, with: { prompt: Go?, timeout: 5m, on_timeout: continue } }\n");
    assert!(!sound.contains("RB0111"), "{sound}");
}
