//! The locks that a step or a whole run asks for by name.

use super::spec::LockEntry;
use super::{Located, LockSpec, OnConflict};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Place};
use crate::language::document::{Checked, Node};
use crate::language::template::is_template;

/// The locks of a step; names may be templates.
pub(super) fn of_step(node: &Node, faults: &mut Diagnostics) -> Vec<Located<String>> {
    let mut names: Vec<Located<String>> = Vec::new();
    for item in node.get("locks").map(Node::items).unwrap_or_default() {
        let Some(name) = item.as_str().filter(|name| sound(name, item.at, faults)) else { continue };
        match names.iter().find(|known| known.value == name) {
            Some(first) => faults.push(again(name, "locks", (item.at, first.at))),
            None => names.push(Located { value: name.to_owned(), at: item.at }),
        }
    }
    names
}

/// The locks of the whole run; names are literal.
pub(super) fn of_run(root: &Node, checked: &Checked, faults: &mut Diagnostics) -> Vec<Located<LockSpec>> {
    let mut locks: Vec<Located<LockSpec>> = Vec::new();
    for (index, item) in root.get("locks").map(Node::items).unwrap_or_default().iter().enumerate() {
        let lock = match checked.read::<LockEntry>(&format!("/locks/{index}")) {
            Some(LockEntry::Name(name)) => LockSpec { name, on_conflict: OnConflict::Fail },
            Some(LockEntry::Full(lock)) => lock,
            None => continue,
        };
        let at = item.get("name").map_or(item.at, |name| name.at);
        if !sound(&lock.name, at, faults) {
            continue;
        }
        if is_template(&lock.name) {
            let fault = Diagnostic::new(Code::BadName, "a lock of the whole run has a literal name").at(at);
            faults.push(fault.help("write the name out, or give the lock to the steps that need it"));
            continue;
        }
        match locks.iter().find(|known| known.value.name == lock.name) {
            Some(first) => faults.push(again(&lock.name, "locks", (at, first.at))),
            None => locks.push(Located { value: lock, at }),
        }
    }
    locks
}

fn sound(name: &str, at: Place, faults: &mut Diagnostics) -> bool {
    let is_sound = !name.trim().is_empty() && !name.contains(char::is_control);
    if !is_sound {
        let fault = Diagnostic::new(Code::BadName, "a lock needs a name of visible letters").at(at);
        faults.push(fault.help("such as `nightly-batch`"));
    }
    is_sound
}

/// Says that an entry of a list of names stands there twice.
pub(super) fn again(name: &str, list: &str, (at, first): (Place, Place)) -> Diagnostic {
    Diagnostic::new(Code::DuplicateName, format!("`{name}` stands twice in `{list}`"))
        .label(at, "given again here")
        .label(first, "first given here")
        .help("remove one of them")
}
