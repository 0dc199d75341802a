//! What programs give to later steps, and what they get of the environment, with the real program.

use crate::support::cli::Cli;

const GIVES: &str = "version: 1
name: tried
pass_env: [TRIED_REGION]
steps:
  - id: version
    run: |
      echo \"version 17.2 in $TRIED_REGION\"
    outputs: { version: { regex: 'version (\\S+)' }, all: lines }
  - { id: outweighed, run: 'test \"$TRIED_REGION\" = mine', env: { TRIED_REGION: mine } }
  - id: sizes
    uses: exec
    with: { argv: [echo, '{\"a\": [1, {\"b\": true}], \"n\": 3}'] }
    outputs: { ready: { json: /a/1/b }, n: { json: /n } }
  - id: reads
    when: steps.sizes.ready
    run: test \"$A|$B|$C|$D\" = '17.2|4|1|{{ eu }}'
    env:
      A: \"{{ steps.version.version }}\"
      B: \"{{ steps.sizes.n + 1 }}\"
      C: \"{{ steps.version.all|length }}\"
      D: \"{{ env_vars.TRIED_REGION }}\"
";

#[test]
fn outputs_keep_their_types_and_a_passed_variable_is_never_a_template() {
    let cli = Cli::with(GIVES);
    cli.run(&["run", "runbook.yaml"]).ends(2).says("`TRIED_REGION` is not set");
    let cli = cli.var("TRIED_REGION", "{{ eu }}");
    cli.run(&["run", "runbook.yaml"]).ends(0);
    assert_eq!(cli.status("reads"), "succeeded");
}

#[test]
fn a_missing_output_fails_its_step_at_the_first_attempt_and_is_null_in_the_end() {
    let cli = Cli::with(
        "version: 1\nname: tried\nsteps:\n  - id: a\n    run: echo one >> count; echo nothing here\n    retry: { max_attempts: 3 }\n    \
         outputs: { id: { regex: 'id=(.)' } }\nfinally:\n  - id: z\n    run: test \"$ID\" = none\n    \
         env: { ID: \"{{ steps.a.id|default('none', true) }}\" }\n",
    );
    cli.run(&["run", "runbook.yaml"]).ends(10).says("its output `id` cannot be taken").says("| nothing here");
    assert_eq!(cli.status("z"), "succeeded");
    assert_eq!(std::fs::read_to_string(cli.path("count")).expect("a file"), "one\n");
}

#[test]
fn a_plan_is_drawn_with_how_often_a_step_is_made() {
    let cli = Cli::with("version: 1\nname: tried\nsteps:\n  - { id: a, for_each: [1, 2, 3], run: 'true' }\n");
    cli.run(&["graph", "runbook.yaml"]).ends(0).prints("shell × 3");
}
