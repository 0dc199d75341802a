//! A checklist as Markdown: plain enough for any renderer, and readable as it is.

use std::fmt::Write as _;

use serde_json::Value;

use super::model::{Checklist, Item};
use super::text::took;
use crate::plan::StepKind;

/// Writes a checklist as Markdown.
#[must_use]
pub fn markdown(list: &Checklist) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# {}\n", escaped(&list.name));
    if !list.description.is_empty() {
        let _ = writeln!(out, "{}\n", escaped(&list.description));
    }
    facts(list, &mut out);
    prerequisites(list, &mut out);
    for part in &list.parts {
        let _ = writeln!(out, "## {}\n", escaped(&part.title));
        if !part.remark.is_empty() {
            let _ = writeln!(out, "{}\n", escaped(&part.remark));
        }
        for step in &part.items {
            item(step, &mut out);
        }
    }
    let _ = writeln!(out, "---\n\nFinished at: ____________  Signed: ______________________________\n");
    let _ = writeln!(out, "Made by `runbook` {} at {} of:\n", list.version, list.made_at);
    for (name, digest) in &list.sources {
        let _ = writeln!(out, "- {} (SHA-256 `{digest}`)", code(name));
    }
    out
}

fn facts(list: &Checklist, out: &mut String) {
    let protected = if list.protected { ", which is protected" } else { "" };
    let _ = writeln!(out, "- Environment: **{}**{protected}", escaped(&list.environment));
    let owner = if list.owner.is_empty() { "nobody is named" } else { &list.owner };
    let _ = writeln!(out, "- Who answers for it: **{}**", escaped(owner));
    for objective in &list.objectives {
        let _ = writeln!(out, "- {}", escaped(objective));
    }
    if let Some(expected) = &list.expected {
        let _ = writeln!(out, "- Expected to take {}", took(expected));
    }
    for (name, value) in list.params.iter().chain(&list.vars) {
        let _ = writeln!(out, "- {}: {}", escaped(name), code(&given(value)));
    }
    if !list.controls.is_empty() {
        let _ = writeln!(out, "- Controls: {}", escaped(&list.controls.join(", ")));
    }
    let _ = writeln!(out, "\nBegun at: ____________  By: ______________________________\n");
}

fn prerequisites(list: &Checklist, out: &mut String) {
    let programs = list.programs.iter().map(|(program, host)| format!("the program {} on host {host}", code(program)));
    let secrets =
        list.secrets.iter().map(|secret| format!("the secret {}, from {}", code(&secret.name), code(&secret.from)));
    let resources = list
        .resources
        .iter()
        .map(|resource| format!("access to {}: {}", escaped(&resource.name), code(&resource.place)));
    let locks = list.locks.iter().map(|lock| format!("nobody else works on {}", code(lock)));
    let all: Vec<String> = resources.chain(programs).chain(secrets).chain(locks).collect();
    if all.is_empty() {
        return;
    }
    let _ = writeln!(out, "## Before you begin\n");
    for one in all {
        let _ = writeln!(out, "- [ ] {one}");
    }
    let _ =
        writeln!(out, "\n`‹name›` stands for a value that is known only then, or for a secret: put it in yourself.\n");
}

fn item(item: &Item, out: &mut String) {
    let kind = match item.kind {
        StepKind::Action => String::new(),
        StepKind::Approval => " (somebody else must agree)".to_owned(),
        StepKind::Manual => " (by hand)".to_owned(),
        StepKind::Runbook => " (the steps of another runbook follow)".to_owned(),
    };
    let title = if item.name == item.id.as_str() { code(&item.name) } else { escaped(&item.name) };
    let _ = writeln!(out, "### {}. {title}{kind}\n", item.number);
    if !item.purpose.is_empty() {
        let _ = writeln!(out, "{}\n", escaped(&item.purpose));
    }
    let mut facts = Vec::new();
    if item.host != "local" {
        facts.push(format!("On host **{}**", escaped(&item.host)));
    }
    if !item.after.is_empty() {
        facts.push(capital(&item.after));
    }
    facts.extend(item.when.iter().map(|when| format!("Only if {}", code(when))));
    facts.extend(item.preconditions.iter().map(|that| format!("Make sure that {}", code(that))));
    facts.extend(item.targets.iter().map(|target| format!("It {target}")));
    facts.extend(item.secrets.iter().map(|secret| format!("Needs the secret {}", code(secret))));
    facts.extend(item.expected.iter().map(|expected| format!("Takes {}", took(expected))));
    facts.extend(item.rules.iter().map(|rule| capital(rule)));
    for fact in &facts {
        let _ = writeln!(out, "- {fact}");
    }
    if !facts.is_empty() {
        out.push('\n');
    }
    lines(item, out);
    if !item.undo.is_empty() {
        let _ = writeln!(out, "To undo it:\n");
        block(&item.undo, out);
    }
    let _ = writeln!(out, "- [ ] Done at: ____________  Took: ________  Initials: ________\n");
}

fn lines(item: &Item, out: &mut String) {
    match item.kind {
        StepKind::Action if !item.by_hand.is_empty() => block(&item.by_hand, out),
        StepKind::Action | StepKind::Runbook => {}
        StepKind::Approval => {
            quote(&item.by_hand, out);
            let _ = writeln!(out, "- [ ] Agreed by: ______________________  At: ____________\n");
        }
        StepKind::Manual => quote(&item.by_hand, out),
    }
}

fn quote(lines: &[String], out: &mut String) {
    for line in lines.iter().flat_map(|line| line.lines()) {
        match line.strip_prefix("☐ ") {
            Some(entry) => {
                let _ = writeln!(out, "- [ ] {}", escaped(entry));
            }
            None => {
                let _ = writeln!(out, "> {}\n", escaped(line));
            }
        }
    }
    out.push('\n');
}

/// A block whose fence is longer than any in it.
fn block(lines: &[String], out: &mut String) {
    let longest = lines.iter().flat_map(|line| line.split(|c| c != '`')).map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let _ = writeln!(out, "{fence}sh\n{}\n{fence}\n", lines.join("\n"));
}

/// A value that was given, or a line to write it on.
pub(super) fn given(value: &Value) -> String {
    match value {
        Value::Null => "____________".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn code(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = if longest > 0 { " " } else { "" };
    format!("{fence}{space}{}{space}{fence}", text.replace('\n', " "))
}

/// Text in which nothing is markup, but for what stands in backticks already.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_code = false;
    for c in text.chars() {
        match c {
            '`' => in_code = !in_code,
            '\n' => {
                out.push(' ');
                continue;
            }
            '\\' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' if !in_code => out.push('\\'),
            _ => {}
        }
        out.push(c);
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{block, code, escaped};

    #[test]
    fn what_is_written_cannot_become_markup() {
        assert_eq!(escaped("a_b *c* <d> `x_y`"), r"a\_b \*c\* \<d\> `x_y`");
        assert_eq!((code("a"), code("a`b")), ("`a`".to_owned(), "`` a`b ``".to_owned()));
        let mut out = String::new();
        block(&["echo '```'".to_owned()], &mut out);
        assert_eq!(out, "````sh\necho '```'\n````\n\n");
    }
}
