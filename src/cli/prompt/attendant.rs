//! Puts one question after the other to the person at the terminal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use tokio::sync::mpsc;

use super::keyboard::{Look, look};
use super::{Notice, account};
use crate::base::StepId;
use crate::cli::operate::{Ended, Lines, Reply, Typed, converse, filled_before, tell_question};
use crate::event::{Actor, HumanAnswer, HumanVerdict, Initiator, Question};
use crate::journal::control;
use crate::plan::BoundPlan;
use crate::port::ControlRequest;
use crate::report::terminal::Stage;
use crate::state::{RunState, StepState};

/// Asks the person at the terminal.
pub(super) struct Attendant {
    plan: Arc<BoundPlan>,
    me: Actor,
    stage: Stage,
    notices: Receiver<Notice>,
    answers: mpsc::Sender<ControlRequest>,
    /// What is asked and not yet put to the person here.
    waiting: Vec<(StepId, Question)>,
    /// The answers to open questions so far.
    given: BTreeMap<StepId, StepState>,
    /// What the person is asked now.
    current: Option<StepId>,
    /// Requests that were refused.
    refused: Vec<String>,
}

/// The run has no more to say.
struct Over;

impl Attendant {
    pub(super) fn new(
        plan: Arc<BoundPlan>,
        state: &RunState,
        stage: Stage,
        (notices, answers): (Receiver<Notice>, mpsc::Sender<ControlRequest>),
    ) -> Self {
        let given = state.steps.clone();
        let (me, waiting, refused) = (account(), Vec::new(), Vec::new());
        Self { plan, me, stage, notices, answers, waiting, given, current: None, refused }
    }

    /// Asks until the run is over or nothing more can be typed.
    pub(super) fn attend(mut self) {
        while self.wait() {
            let (step, question) = self.waiting.remove(0);
            let asked = self.ask(&step, &question);
            self.current = None;
            self.stage.give_back();
            if asked == Err(Ended::Closed) {
                tell!("\nnothing more is read here; `{}` answers", self.command(&step));
                break;
            }
        }
        // In this order: a question that comes now is either never heard or given back by who sent it.
        let Self { stage, notices, .. } = self;
        drop(notices);
        stage.clear();
    }

    /// Waits until something is asked; false when the run has no more to say.
    fn wait(&mut self) -> bool {
        while self.waiting.is_empty() {
            let Ok(notice) = self.notices.recv() else { return false };
            self.take(notice);
        }
        true
    }

    fn ask(&mut self, step: &StepId, question: &Question) -> Result<(), Ended> {
        let known = self.given.get(step).cloned().unwrap_or_default();
        tell_question(&self.plan, step, question, &known);
        if let Some(why) = self.barred(question, &known) {
            tell!("  {why}: `{} --as NAME` answers", self.command(step));
            return Ok(());
        }
        self.current = Some(step.clone());
        let reply = match converse(question, &filled_before(&known), self) {
            Ok(reply) => reply,
            Err(Ended::Withdrawn) => {
                tell!("\nstep `{step}` asks no more: it was settled elsewhere");
                return Err(Ended::Withdrawn);
            }
            Err(Ended::Closed) => return Err(Ended::Closed),
        };
        self.send(step, question, reply);
        Ok(())
    }

    /// Hands the answer to the engine and waits for what comes of it.
    fn send(&mut self, step: &StepId, question: &Question, reply: Reply) {
        let request = control::request_name();
        let (verdict, by) = (reply.verdict, self.me.clone());
        let answer = HumanAnswer {
            request: request.clone(),
            by,
            verdict,
            comment: reply.comment,
            inputs: reply.inputs,
            seen: question.digest(),
            break_glass: None,
        };
        let sent = ControlRequest::Answer { step: step.clone(), answer: Box::new(answer) };
        if self.answers.blocking_send(sent).is_err() {
            return;
        }
        loop {
            let answers = self.given.get(step).map(|known| known.answers.as_slice()).unwrap_or_default();
            if answers.iter().any(|(_, answer)| answer.request == request) {
                let yes = answers.iter().filter(|(_, answer)| answer.verdict == HumanVerdict::Yes).count();
                let missing = (question.quorum as usize).saturating_sub(yes);
                if verdict == HumanVerdict::Yes && missing > 0 {
                    tell!("{missing} more to approve: `{} --as NAME`, from another terminal", self.command(step));
                }
                return;
            }
            if self.refused.contains(&request) {
                tell!("the answer was refused; `{}` answers otherwise", self.command(step));
                return;
            }
            let Ok(notice) = self.notices.recv() else { return };
            if matches!(&notice, Notice::Settled(settled) if settled == step) {
                return;
            }
            self.take(notice);
        }
    }

    /// Why the person here may not answer, when that is plain before asking.
    fn barred(&self, question: &Question, known: &StepState) -> Option<String> {
        let name = &self.me.name;
        if known.answers.iter().any(|(_, answer)| answer.by.name == *name) {
            return Some(format!("{name} has answered; somebody else has to as well"));
        }
        if !question.approvers.is_empty() && !question.approvers.contains(name) {
            return Some(format!("{name} is not among the approvers"));
        }
        match question.initiator {
            Initiator::MayNotApprove if self.plan.actor.name == *name => {
                Some(format!("{name} started the run, so somebody else has to"))
            }
            Initiator::MayNotApprove | Initiator::MayApprove => None,
        }
    }

    fn command(&self, step: &StepId) -> String {
        format!("runbook approve {} {step}", self.plan.run)
    }

    fn take(&mut self, notice: Notice) {
        match notice {
            Notice::Asked(step, question) => {
                self.given.remove(&step);
                self.waiting.push((step, *question));
            }
            Notice::Answered(step, answer) => {
                self.given.entry(step).or_default().answers.push((crate::base::clock::now(), *answer));
            }
            Notice::Refused(request) => self.refused.push(request),
            Notice::Settled(step) => {
                if let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == step) {
                    self.waiting.remove(at);
                    self.stage.give_back();
                }
                if self.current.as_ref() == Some(&step) {
                    self.current = None;
                }
            }
        }
    }

    /// Takes what was told meanwhile.
    fn listen(&mut self) -> Result<(), Over> {
        loop {
            match self.notices.try_recv() {
                Ok(notice) => self.take(notice),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Over),
            }
        }
    }
}

impl Lines for Attendant {
    fn read(&mut self) -> Typed {
        loop {
            if self.listen().is_err() || self.current.is_none() {
                return Typed::Withdrawn;
            }
            match look() {
                Look::Nothing => {}
                Look::Line(line) => return Typed::Line(line),
                Look::Closed => return Typed::Closed,
            }
        }
    }
}
