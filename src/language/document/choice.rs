//! Values that may be one of several things: which one was meant, and what is wrong with it.

use serde_json::Value;

use super::node::{Kind, Node};
use super::schema::{Schema, plain};
use super::validate::{TemplatePolicy, Walk, subject};
use crate::base::diagnostic::{Code, Diagnostic};

impl Walk {
    pub(super) fn choice(&mut self, node: &Node, branches: &[Schema<'_>], pointer: &str) -> Value {
        let may_be_null = self.templates == TemplatePolicy::Allowed && branches.iter().any(|branch| branch.is_null());
        if matches!(node.kind, Kind::Null) && may_be_null {
            return Value::Null;
        }
        let branches: Vec<Schema<'_>> = branches.iter().copied().filter(|branch| !branch.is_null()).collect();
        if let [only] = branches.as_slice() {
            return self.value(node, *only, pointer);
        }
        if let Some(value) = branches.iter().find_map(|branch| self.fits(node, *branch, pointer)) {
            return value;
        }
        self.explain(node, &branches, pointer)
    }

    /// Gives the value when a branch has no fault with it.
    fn fits(&mut self, node: &Node, branch: Schema<'_>, pointer: &str) -> Option<Value> {
        let mut walk = Walk { templates: self.templates, faults: Vec::new(), names: Vec::new() };
        let value = walk.value(node, branch, pointer);
        if !walk.faults.is_empty() {
            return None;
        }
        self.names.append(&mut walk.names);
        Some(value)
    }

    fn explain(&mut self, node: &Node, branches: &[Schema<'_>], pointer: &str) -> Value {
        let wanted = || branches.iter().map(|branch| branch.describe()).collect::<Vec<_>>().join(" or ");
        match &node.kind {
            Kind::Map(_) if branches.iter().any(|branch| branch.tag().is_some()) => {
                self.tagged(node, branches, pointer)
            }
            Kind::Str(_) => {
                let known: Vec<String> = branches.iter().filter_map(|b| b.constants()).flatten().map(plain).collect();
                match branches.iter().find(|branch| branch.constants().is_none() && branch.takes("string")) {
                    Some(branch) => self.value(node, *branch, pointer),
                    None if known.is_empty() => self.wrong_type(node, &wanted(), pointer),
                    None => {
                        self.unknown_value(node, &known, pointer);
                        node.to_json()
                    }
                }
            }
            kind => match branches.iter().find(|branch| branch.takes(json_type(kind))) {
                Some(branch) if !matches!(kind, Kind::Null) => self.value(node, *branch, pointer),
                Some(_) | None => self.wrong_type(node, &wanted(), pointer),
            },
        }
    }

    /// Exactly one of several keys, each with its own value.
    fn tagged(&mut self, node: &Node, branches: &[Schema<'_>], pointer: &str) -> Value {
        let tags: Vec<&str> = branches.iter().filter_map(|branch| branch.tag()).collect();
        let list = tags.iter().map(|tag| format!("`{tag}`")).collect::<Vec<_>>().join(", ");
        let written: Vec<_> = node.entries().iter().filter(|entry| tags.contains(&entry.key.as_str())).collect();
        for entry in node.entries().iter().filter(|entry| !tags.contains(&entry.key.as_str())) {
            let fault = Diagnostic::new(Code::UnknownKey, format!("unknown key `{}`", entry.key))
                .at(entry.key_at)
                .suggest(&entry.key, tags.iter().copied());
            self.fault(pointer, fault);
        }
        match written.as_slice() {
            [] if node.entries().is_empty() => {
                let message = format!("{} needs one of {list}", subject(pointer));
                self.fault(pointer, Diagnostic::new(Code::MissingKey, message).at(node.at));
            }
            [] => {}
            [one] => {
                if let Some(branch) = branches.iter().find(|branch| branch.tag() == Some(&one.key))
                    && node.entries().len() == 1
                {
                    return self.value(node, *branch, pointer);
                }
            }
            [first, second, ..] => {
                let message = format!("{} takes only one of {list}", subject(pointer));
                let fault = Diagnostic::new(Code::BadCombination, message)
                    .label(second.key_at, "excludes the other")
                    .label(first.key_at, "given here");
                self.fault(pointer, fault.help("remove one of them"));
            }
        }
        node.to_json()
    }
}

fn json_type(kind: &Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Bool(_) => "boolean",
        Kind::Number(number) if number.is_f64() => "number",
        Kind::Number(_) => "integer",
        Kind::Str(_) => "string",
        Kind::Seq(_) => "array",
        Kind::Map(_) => "object",
    }
}
