//! What a person types when the program is not there: lines for a checklist on paper.
//!
//! A line is a command for a POSIX shell, or a remark that begins with `# `. Values that are known only during
//! the run, and secrets, stand as `‹name›`: typed as they are, the shell finds no such file and does nothing.

use std::path::Path;

use serde_json::Value;

use super::{Late, pending};
use crate::base::secret::{TOKEN_CLOSE, TOKEN_OPEN};

/// One command as a line, every word quoted that needs it.
pub fn command_line<I: IntoIterator<Item = S>, S: AsRef<str>>(words: I) -> String {
    words.into_iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// A command as another user: by `sudo`; where root has none, as on a minimal system, by what every Linux brings along.
pub fn as_user<I: IntoIterator<Item = S>, S: AsRef<str>>(user: &str, words: I) -> String {
    let line = command_line(words);
    let user = quoted(user);
    match root_has_no_sudo() {
        true => format!("runuser -u {user} -- {line}"),
        false => format!("sudo -u {user} {line}"),
    }
}

/// A command as root.
pub fn as_root<I: IntoIterator<Item = S>, S: AsRef<str>>(words: I) -> String {
    let line = command_line(words);
    if root_has_no_sudo() { line } else { format!("sudo {line}") }
}

/// Tells whether this is root, on a machine without `sudo` and with `runuser` (of util-linux).
fn root_has_no_sudo() -> bool {
    let has = |program: &str| {
        ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(program).exists())
    };
    rustix::process::geteuid().is_root() && !has("sudo") && has("runuser")
}

/// A remark.
#[must_use]
pub fn remark(text: &str) -> String {
    format!("# {}", text.replace('\n', "\n# "))
}

/// A word that a shell takes as it is.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-+=./:,@%‹›".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl<T> Late<T> {
    /// The value as text, or the name of where it will come from.
    pub fn shown(&self, text: impl Fn(&T) -> String) -> String {
        match self {
            Self::Known(value) => text(value),
            Self::Pending(expression) => placeholder(expression),
        }
    }
}

/// The name of a value that is not known yet.
#[must_use]
pub fn placeholder(expression: &str) -> String {
    format!("‹{}›", expression.trim().trim_start_matches("{{").trim_end_matches("}}").trim())
}

/// Puts `‹secret NAME›` where a secret is referred to: paper never carries one.
#[must_use]
pub fn without_secrets(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace(TOKEN_OPEN, "‹secret ").replace(TOKEN_CLOSE, "›")),
        Value::Array(items) => items.iter().map(without_secrets).collect(),
        Value::Object(members) => members.iter().map(|(key, member)| (key.clone(), without_secrets(member))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The arguments of an action without an equivalent, one per line.
#[must_use]
pub fn arguments(summary: &str, with: &Value) -> Vec<String> {
    let mut lines = vec![remark(summary)];
    for (name, member) in with.as_object().into_iter().flatten() {
        let text = match (pending(member), member) {
            (Some(expression), _) => placeholder(expression),
            (None, Value::String(text)) => text.clone(),
            (None, other) => other.to_string(),
        };
        lines.push(remark(&format!("{name}: {text}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{arguments, as_root, as_user, command_line, without_secrets};
    use crate::action::Late;
    use crate::base::secret::token;

    #[test]
    fn only_words_that_need_it_are_quoted() {
        let words = ["pg_ctl", "stop", "-D", "/var/lib/my data", "it's", "", "$HOME", "‹steps.a.b›"];
        assert_eq!(command_line(words), r"pg_ctl stop -D '/var/lib/my data' 'it'\''s' '' '$HOME' ‹steps.a.b›");
    }

    /// Whoever is not root may have to give a password to `sudo`: there only the words are held against what they shall be.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a shell as a person has it")]
    fn a_line_as_another_user_is_one_that_runs_on_the_machine_it_is_printed_on() {
        let (nobody, root) = (as_user("nobody", ["id", "-un"]), as_root(["id", "-un"]));
        if !rustix::process::geteuid().is_root() {
            assert_eq!((nobody.as_str(), root.as_str()), ("sudo -u nobody id -un", "sudo id -un"));
            return;
        }
        for (line, user) in [(nobody, "nobody"), (root, "root")] {
            let ran = std::process::Command::new("sh").args(["-c", &line]).output().expect("a shell");
            assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), user, "{line}: {ran:?}");
        }
    }

    #[test]
    fn arguments_name_late_values_and_secrets_and_show_neither() {
        let with =
            json!({ "a": Late::<()>::marker("{{ steps.x.y }}"), "b": format!("Bearer {}", token("key")), "c": 3 });
        let lines = arguments("Does it.", &without_secrets(&with));
        assert_eq!(lines, ["# Does it.", "# a: ‹steps.x.y›", "# b: Bearer ‹secret key›", "# c: 3"]);
    }
}
