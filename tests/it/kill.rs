//! SIGKILL of the real program at random moments: no step is lost, no effect is doubled.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::cli::{Cli, Ran};
use crate::support::dice::Dice;

const KILLS: u32 = 200;
const PROCEDURES: u32 = 16;

/// Writes a runbook whose every attempt appends one line to the file `effects`.
fn procedure(dice: &mut Dice) -> String {
    let mut text = "version: 1\nname: hit\ndescription: Generated.\nparams:\n  effects: { type: string, description: Where effects go. }\nsteps:\n".to_owned();
    let steps = 3 + dice.below(4);
    for at in 0..steps {
        let tolerated = dice.below(6) == 0;
        // How many attempts fail before one succeeds; more than are allowed where the failure is tolerated.
        let failures = if tolerated { 9 } else { dice.below(3).saturating_sub(1) };
        let pause = dice.below(40);
        let _ = writeln!(text, "  - id: s{at}");
        match dice.below(3) {
            0 => {}
            1 => text.push_str("    needs: []\n"),
            _ if at == 0 => text.push_str("    needs: []\n"),
            _ => {
                let first = dice.below(at);
                let second = dice.below(at);
                let _ = match first == second {
                    true => writeln!(text, "    needs: [s{first}?]"),
                    false => writeln!(text, "    needs: [s{first}?, s{second}?]"),
                };
            }
        }
        let _ = writeln!(
            text,
            "    env: {{ EFFECTS: \"{{{{ params.effects }}}}\" }}\n    run: |\n      echo s{at} >>\"$EFFECTS\"\n      \
             sleep 0.{pause:03}\n      test \"$(grep -cx s{at} \"$EFFECTS\")\" -gt {failures}"
        );
        if failures > 0 {
            text.push_str("    retry: { max_attempts: 2, delay: 10ms, on: [1] }\n");
        }
        if tolerated {
            text.push_str("    on_failure: continue\n");
        }
    }
    text.push_str(
        "finally:\n  - id: last\n    env: { EFFECTS: \"{{ params.effects }}\" }\n    run: echo last >>\"$EFFECTS\"\n",
    );
    text
}

/// What is left of a run: its code, how each step ended, how often each effect happened.
#[derive(Debug, PartialEq)]
struct Result {
    code: i32,
    steps: BTreeMap<String, String>,
    effects: BTreeMap<String, usize>,
}

fn result(cli: &Cli, ran: &Ran) -> Result {
    let shown = cli.shown();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let steps = shown["steps"].as_array().expect("steps").iter();
    Result {
        code: ran.code.unwrap_or_else(|| panic!("{ran:?}")),
        steps: steps.map(|step| (text(&step["id"]), text(&step["status"]))).collect(),
        effects: effects(cli),
    }
}

fn effects(cli: &Cli) -> BTreeMap<String, usize> {
    let mut effects = BTreeMap::new();
    for line in cli.read("effects").lines() {
        *effects.entry(line.to_owned()).or_default() += 1;
    }
    effects
}

fn begin(cli: &Cli) -> [String; 4] {
    let effects = format!("effects={}", cli.path("effects").display());
    ["run", "runbook.yaml", "-p", &effects].map(str::to_owned)
}

/// Runs a procedure, killing it up to three times; gives how many kills were sent and how many hit a live program.
fn hit(text: &str, expected: &Result, length: Duration, dice: &mut Dice) -> (u32, u32) {
    let cli = Cli::with(text);
    let (mut sent, mut live) = (0, 0);
    for _ in 0..=dice.below(3) {
        let resumes = !cli.runs().is_empty();
        let program = if resumes { cli.spawn(&["resume", "last"]) } else { cli.spawn(&begin(&cli)) };
        let moment = length.mul_f64(dice.below(1000) as f64 / 1000.0);
        std::thread::sleep(moment);
        sent += 1;
        live += u32::from(program.kill());
    }
    let ran = match cli.runs().is_empty() {
        true => {
            assert_eq!(effects(&cli), BTreeMap::new(), "effects without a run");
            cli.run(&begin(&cli))
        }
        false => cli.run(&["resume", "last"]),
    };
    let code = ran.code;
    assert_eq!(
        &result(&cli, &ran),
        expected,
        "after {sent} kills, {code:?}:\n{text}\n{}\n{:#?}",
        ran.err,
        cli.journal()
    );
    cli.run(&["audit", "verify", "all"]).ends(0);
    (sent, live)
}

fn campaign(seed: u64, target: u32, hits: &(AtomicU32, AtomicU32)) {
    let mut dice = Dice(seed);
    let text = procedure(&mut dice);
    let calm = Cli::with(&text);
    let begin_at = Instant::now();
    let ran = calm.run(&begin(&calm));
    let length = begin_at.elapsed();
    let expected = result(&calm, &ran);
    assert!(matches!(expected.code, 0 | 5), "{text}\n{ran:?}");
    let mut live = 0;
    while live < target {
        let (more, more_live) = hit(&text, &expected, length, &mut dice);
        live += more_live;
        hits.0.fetch_add(more, Ordering::Relaxed);
        hits.1.fetch_add(more_live, Ordering::Relaxed);
    }
}

#[test]
fn a_program_killed_at_two_hundred_moments_loses_no_step_and_doubles_no_effect() {
    let hits = (AtomicU32::new(0), AtomicU32::new(0));
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= PROCEDURES {
                        break;
                    }
                    campaign(u64::from(seed), KILLS.div_ceil(PROCEDURES), &hits);
                }
            });
        }
    });
    let (sent, live) = (hits.0.into_inner(), hits.1.into_inner());
    println!("{sent} kills, {live} of them hit a live program");
    assert!(live >= KILLS, "{sent} kills, {live} hit a live program");
}
