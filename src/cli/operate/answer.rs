//! Answers a question from the command line.

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _};

use serde_json::{Map, Value};

use super::super::{Exit, Failure, args, wiring};
use super::dialogue::{filled, filled_before, is_wanted, ticked};
use super::kept::beside_kept;
use super::{Lines, Subject, Telling, Typed, deliver, tell_question};
use crate::base::{StepId, clock};
use crate::event::{HumanAnswer, HumanVerdict, Question};
use crate::journal::Verb;

/// What was typed with `approve` or `deny`.
#[derive(Debug)]
pub struct Answering {
    /// The run.
    pub run: String,
    /// The step; the only one that asks when absent.
    pub step: Option<String>,
    /// Who answers; the account when absent.
    pub name: Option<String>,
    /// Yes or no.
    pub verdict: HumanVerdict,
    /// What is said with it.
    pub comment: String,
    /// What is filled in, as `NAME=VALUE`.
    pub inputs: Vec<String>,
    /// The reason why one person answers for all.
    pub break_glass: Option<String>,
    /// How the outcome is told.
    pub telling: Telling,
}

/// Shows the question, asks at a terminal for what is missing, and hands the answer over.
///
/// # Errors
/// Refuses (exit 2) inputs that are unknown, malformed or missing, and a step that asks nothing; (exit 4) a yes to what a no
/// is kept for.
pub fn answer(answering: Answering) -> Result<Exit, Failure> {
    let by = wiring::actor_as(answering.name.as_deref())?;
    let subject = Subject::find(&answering.run)?;
    let (step, question) = subject.question(answering.step.as_deref())?;
    let known = subject.state.steps.get(&step).cloned().unwrap_or_default();
    tell_question(&subject.plan, &step, question, &known);
    beside_kept(&subject, (&step, question), answering.verdict)?;
    let inputs = given(question, &answering.inputs)?;
    let (verdict, inputs) = match answering.verdict {
        HumanVerdict::No => (HumanVerdict::No, inputs),
        HumanVerdict::Yes => completed((&subject, &step, question), (inputs, &filled_before(&known)))?,
    };
    let answer = HumanAnswer {
        request: String::new(),
        by,
        verdict,
        comment: answering.comment,
        inputs,
        seen: question.digest(),
        break_glass: answering.break_glass,
    };
    deliver(&subject, &Verb::Answer { step, answer: Box::new(answer) }, answering.telling)
}

/// Reads the inputs given, each as the type the question says.
fn given(question: &Question, inputs: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut read = Map::new();
    for (name, value) in args::pairs(inputs, "input")? {
        let Some(param) = question.inputs.get(&name) else {
            let known: Vec<String> = question.inputs.keys().map(|name| format!("`{name}`")).collect();
            let help = match known.as_slice() {
                [] => "the question has no inputs".to_owned(),
                names => format!("known inputs: {}", names.join(", ")),
            };
            return Err(Failure::new(Exit::Usage, format!("the question has no input `{name}`")).help(help));
        };
        let value = param.read(&value, clock::now()).map_err(|error| {
            let help = error.help.clone().unwrap_or_else(|| format!("it takes {}", param.kind.describe()));
            Failure::new(Exit::Usage, format!("the input `{name}`: {error}")).help(help)
        })?;
        read.insert(name, value);
    }
    Ok(read)
}

/// Completes a yes: at a terminal the checklist and the missing inputs are asked for, elsewhere nothing may be missing.
fn completed(
    (subject, step, question): (&Subject, &StepId, &Question),
    (inputs, before): (Map<String, Value>, &BTreeSet<String>),
) -> Result<(HumanVerdict, Map<String, Value>), Failure> {
    let missing = || {
        let has = |name: &String| inputs.contains_key(name) || before.contains(name);
        let wanted = question.inputs.iter().filter(|(name, param)| is_wanted(param) && !has(name));
        wanted.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
    };
    let incomplete = |names: &str, help: String| Failure::new(Exit::Usage, format!("not answered: {names}")).help(help);
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        let gone = |_| incomplete("nothing more was typed", "nothing was changed".to_owned());
        if !ticked(question, &mut Keyboard).map_err(gone)? {
            let help = format!("`runbook deny {} {step} --comment TEXT` says that it is not done", subject.dir.id());
            return Err(incomplete("a point of the checklist is not done", help));
        }
        return Ok((HumanVerdict::Yes, filled(question, (inputs, before), &mut Keyboard).map_err(gone)?));
    }
    match missing().as_slice() {
        [] => Ok((HumanVerdict::Yes, inputs)),
        names => {
            let flags: Vec<String> = names.iter().map(|name| format!("--input {name}=VALUE")).collect();
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            Err(incomplete(&format!("the input {} is missing", names.join(", ")), format!("add `{}`", flags.join(" "))))
        }
    }
}

/// Lines typed at this command's own terminal.
struct Keyboard;

impl Lines for Keyboard {
    fn read(&mut self, prompt: &str) -> Typed {
        tell_part!("{prompt}");
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(0) | Err(_) => Typed::Closed,
            Ok(_) => Typed::Line(line),
        }
    }
}
