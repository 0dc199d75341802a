//! Asks a person, line by line: what is to be ticked off, what is to be filled in, yes or no.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::question::describe;
use crate::base::clock;
use crate::event::{HumanVerdict, Question, QuestionKind};
use crate::language::runbook::Param;
use crate::report::mask_text;
use crate::state::StepState;

/// What came from a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// A line, without its end.
    Line(String),
    /// The question is no more.
    Withdrawn,
    /// Nobody can type any more.
    Closed,
}

/// Where lines come from.
pub trait Lines {
    /// Waits for the next line.
    fn read(&mut self) -> Typed;
}

/// Why a dialogue came to no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The question is no more.
    Withdrawn,
    /// Nobody can type any more.
    Closed,
}

/// What a person answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Yes or no.
    pub verdict: HumanVerdict,
    /// What was said with it.
    pub comment: String,
    /// What was filled in.
    pub inputs: Map<String, Value>,
}

/// What was filled in by those who answered before.
pub fn filled_before(known: &StepState) -> BTreeSet<String> {
    known.answers.iter().flat_map(|(_, answer)| answer.inputs.keys().cloned()).collect()
}

/// Asks everything that belongs to a question: the checklist, the inputs that nobody gave yet, the verdict.
///
/// # Errors
/// Tells why it came to no answer.
pub fn converse(question: &Question, before: &BTreeSet<String>, lines: &mut impl Lines) -> Result<Reply, Ended> {
    let no = |comment: String| Reply { verdict: HumanVerdict::No, comment, inputs: Map::new() };
    if !ticked(question, lines)? {
        return Ok(no(line("Why is it not done? ", lines)?));
    }
    let inputs = filled(question, (Map::new(), before), lines)?;
    let last = match question.kind {
        QuestionKind::Approval => "Approve? [yes/no] ",
        QuestionKind::Manual => "Is it done? [yes/no] ",
    };
    match yes_or_no(last, lines)? {
        HumanVerdict::Yes => Ok(Reply { verdict: HumanVerdict::Yes, comment: String::new(), inputs }),
        HumanVerdict::No => Ok(no(line("Why not? ", lines)?)),
    }
}

/// Has every point of the checklist ticked off; false as soon as one is not done.
pub(super) fn ticked(question: &Question, lines: &mut impl Lines) -> Result<bool, Ended> {
    for (at, item) in question.checklist.iter().enumerate() {
        match yes_or_no(&format!("{}. {}: done? [yes/no] ", at + 1, mask_text(item)), lines)? {
            HumanVerdict::Yes => {}
            HumanVerdict::No => return Ok(false),
        }
    }
    Ok(true)
}

/// Asks for the inputs that are not given yet.
pub(super) fn filled(
    question: &Question,
    (mut given, before): (Map<String, Value>, &BTreeSet<String>),
    lines: &mut impl Lines,
) -> Result<Map<String, Value>, Ended> {
    for (name, param) in &question.inputs {
        if given.contains_key(name) || before.contains(name) {
            continue;
        }
        if let Some(value) = input(name, param, lines)? {
            given.insert(name.clone(), value);
        }
    }
    Ok(given)
}

/// Asks for one input until it fits; nothing is typed for one that need not be given.
fn input(name: &str, param: &Param, lines: &mut impl Lines) -> Result<Option<Value>, Ended> {
    loop {
        tell_part!("{name}, {}: ", describe(param));
        let text = next(lines)?;
        if text.is_empty() {
            if is_wanted(param) {
                continue;
            }
            return Ok(None);
        }
        match param.read(&Value::String(text), clock::now()) {
            Ok(value) => return Ok(Some(value)),
            Err(error) => tell!("{error}{}", error.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default()),
        }
    }
}

/// Whether an answer is not complete without the input.
pub(super) fn is_wanted(param: &Param) -> bool {
    param.default.is_none() && param.required.unwrap_or(true)
}

fn yes_or_no(prompt: &str, lines: &mut impl Lines) -> Result<HumanVerdict, Ended> {
    loop {
        match line(prompt, lines)?.to_ascii_lowercase().as_str() {
            "y" | "yes" => return Ok(HumanVerdict::Yes),
            "n" | "no" => return Ok(HumanVerdict::No),
            other => tell!("`{}` is neither `yes` nor `no`", mask_text(other)),
        }
    }
}

/// Asks until something is typed.
fn line(prompt: &str, lines: &mut impl Lines) -> Result<String, Ended> {
    loop {
        tell_part!("{prompt}");
        let text = next(lines)?;
        if !text.is_empty() {
            return Ok(text);
        }
    }
}

fn next(lines: &mut impl Lines) -> Result<String, Ended> {
    let _ = std::io::Write::flush(&mut std::io::stderr());
    match lines.read() {
        Typed::Line(text) => Ok(text.trim().to_owned()),
        Typed::Withdrawn => Err(Ended::Withdrawn),
        Typed::Closed => Err(Ended::Closed),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::json;

    use super::{Ended, Lines, Typed, converse};
    use crate::event::{HumanVerdict, Initiator, OnTimeout, Question, QuestionKind};

    struct Script(Vec<Typed>);

    impl Lines for Script {
        fn read(&mut self) -> Typed {
            if self.0.is_empty() { Typed::Closed } else { self.0.remove(0) }
        }
    }

    fn script(lines: &[&str]) -> Script {
        Script(lines.iter().map(|line| Typed::Line((*line).to_owned())).collect())
    }

    fn question() -> Question {
        let inputs = json!({ "ticket": { "type": "int" }, "note": { "required": false } });
        Question {
            kind: QuestionKind::Manual,
            prompt: "switch the traffic".to_owned(),
            checklist: vec!["the console is open".to_owned(), "traffic is off".to_owned()],
            inputs: serde_json::from_value(inputs).expect("inputs"),
            approvers: Vec::new(),
            quorum: 1,
            initiator: Initiator::MayApprove,
            until: None,
            on_timeout: OnTimeout::Pause,
            timer_ms: None,
        }
    }

    #[test]
    fn everything_is_asked_in_turn_and_again_until_it_fits() {
        let typed = ["", "maybe", "y", "yes", "", "seven", "7", "", "yes"];
        let reply = converse(&question(), &BTreeSet::new(), &mut script(&typed)).expect("an answer");
        assert_eq!(reply.verdict, HumanVerdict::Yes);
        assert_eq!(serde_json::Value::Object(reply.inputs), json!({ "ticket": 7 }));
    }

    #[test]
    fn what_another_approver_filled_in_is_not_asked_again() {
        let before = BTreeSet::from(["ticket".to_owned()]);
        let typed = ["y", "y", "", "yes"];
        assert!(converse(&question(), &before, &mut script(&typed)).expect("an answer").inputs.is_empty());
    }

    #[test]
    fn a_point_that_is_not_done_ends_the_dialogue_with_a_no_and_a_reason() {
        let reply = converse(&question(), &BTreeSet::new(), &mut script(&["yes", "no", "", "the console is down"]))
            .expect("an answer");
        assert_eq!((reply.verdict, reply.comment.as_str()), (HumanVerdict::No, "the console is down"));
    }

    #[test]
    fn a_question_that_is_withdrawn_or_a_terminal_that_is_gone_gives_no_answer() {
        let mut withdrawn = Script(vec![Typed::Line("yes".to_owned()), Typed::Withdrawn]);
        assert_eq!(converse(&question(), &BTreeSet::new(), &mut withdrawn), Err(Ended::Withdrawn));
        let plain = Question { checklist: Vec::new(), inputs: BTreeMap::new(), ..question() };
        assert_eq!(converse(&plain, &BTreeSet::new(), &mut script(&[""])), Err(Ended::Closed));
    }
}
