//! A checklist as one HTML file for paper: A4 or Letter, black on white, each phase on a page of its own.

use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

use super::markdown::given;
use super::model::{Checklist, Item, Part};
use super::text::took;
use crate::action::EffectClass;
use crate::plan::StepKind;

const STYLE: &str = include_str!("checklist.css");

/// Writes a checklist as HTML.
#[must_use]
pub fn html(list: &Checklist) -> String {
    let page = markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (list.name) " · checklist" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                section.cover {
                    (cover(list))
                    (prerequisites(list))
                }
                @for part in &list.parts { (phase(part)) }
                (end(list))
            }
        }
    };
    page.into_string()
}

fn cover(list: &Checklist) -> Markup {
    markup! {
        header {
            h1 { (list.name) }
            @if !list.description.is_empty() { p.lead { (words(&list.description)) } }
        }
        dl {
            dt { "Environment" } dd { b { (list.environment) } @if list.protected { " (protected)" } }
            dt { "Owner" } dd { @if list.owner.is_empty() { "nobody is named" } @else { (list.owner) } }
            @for objective in &list.objectives { dt { "Objective" } dd { (objective) } }
            @if let Some(expected) = &list.expected { dt { "Forecast" } dd { (took(expected)) } }
            @for (name, value) in list.params.iter().chain(&list.vars) { dt { (name) } dd { (given(value)) } }
            @if !list.controls.is_empty() { dt { "Controls" } dd { (list.controls.join(", ")) } }
        }
        div.sign { span { "Begun at" i {} } span { "By" i.wide {} } }
    }
}

fn prerequisites(list: &Checklist) -> Markup {
    markup! {
        h2 { "Before you begin" }
        ul.boxes {
            @for resource in &list.resources { li { "Access to " (resource.name) ": " code { (resource.place) } } }
            @for (program, host) in &list.programs { li { "The program " code { (program) } " on host " (host) } }
            @for secret in &list.secrets { li { "The secret " code { (secret.name) } ", from " (secret.from) } }
            @for lock in &list.locks { li { "Nobody else works on " code { (lock) } } }
            li { "Somebody writes down times and what is seen" }
        }
        p.note { code { "‹name›" } " stands for a value that is known only then, or for a secret: put it in yourself." }
    }
}

fn phase(part: &Part) -> Markup {
    markup! {
        section.phase {
            h2 { (part.title) @if !part.remark.is_empty() { small { (part.remark) } } }
            @for step in &part.items { (item(step)) }
        }
    }
}

fn item(item: &Item) -> Markup {
    markup! {
        article {
            div.tick {}
            div.body {
                h3 {
                    span.number { (item.number) } " " (item.name)
                    @match item.kind {
                        StepKind::Action => {}
                        StepKind::Approval => { em { "somebody else must agree" } }
                        StepKind::Manual => { em { "by hand" } }
                        StepKind::Runbook => { em { "the steps of another runbook follow" } }
                    }
                    @match item.effect {
                        EffectClass::None | EffectClass::Read => {}
                        EffectClass::Write => { em { "changes" } }
                        EffectClass::Destroy => { em.strong { "destroys" } }
                    }
                }
                @if !item.purpose.is_empty() { p { (words(&item.purpose)) } }
                (facts(item))
                (instructions(item))
                @if !item.undo.is_empty() { p.label { "To undo it" } (commands(&item.undo)) }
                div.sign { span { "Done at" i {} } span { "Took" i {} } span { "Initials" i {} } }
            }
        }
    }
}

fn facts(item: &Item) -> Markup {
    markup! {
        ul.facts {
            @if item.host != "local" { li { "on host " b { (item.host) } } }
            @if !item.after.is_empty() { li { (words(&item.after)) } }
            @if let Some(when) = &item.when { li { "only if " code { (when) } } }
            @for that in &item.preconditions { li { "make sure that " code { (that) } } }
            @for target in &item.targets { li { (words(target)) } }
            @for secret in &item.secrets { li { "needs the secret " code { (secret) } } }
            @if let Some(expected) = &item.expected { li { "takes " (took(expected)) } }
            @for rule in &item.rules { li { (words(rule)) } }
        }
    }
}

fn instructions(item: &Item) -> Markup {
    let lines = || item.by_hand.iter().flat_map(|line| line.lines());
    match item.kind {
        StepKind::Action if !item.by_hand.is_empty() => commands(&item.by_hand),
        StepKind::Action | StepKind::Runbook => markup! {},
        StepKind::Approval | StepKind::Manual => markup! {
            blockquote {
                @for line in lines().filter(|line| !line.starts_with("☐ ")) { p { (line) } }
                ul.boxes { @for entry in lines().filter_map(|line| line.strip_prefix("☐ ")) { li { (entry) } } }
                @if item.kind == StepKind::Approval { div.sign { span { "Agreed by" i.wide {} } span { "At" i {} } } }
            }
        },
    }
}

/// What to type, a line each; what does not fit goes on further to the right.
fn commands(lines: &[String]) -> Markup {
    markup! { pre { @for line in lines.iter().flat_map(|line| line.lines()) { span.line { (line) } } } }
}

fn end(list: &Checklist) -> Markup {
    markup! {
        footer {
            div.sign { span { "Finished at" i {} } span { "Signed" i.wide {} } }
            p.note { "Made by runbook " (list.version) " at " (list.made_at) " of:" }
            ul.note { @for (name, digest) in &list.sources { li { (name) br; code { (digest) } } } }
        }
    }
}

/// Text whose parts in backticks are code.
fn words(text: &str) -> Markup {
    markup! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
