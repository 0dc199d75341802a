//! What a process carries out, by the words it was started with: an interpreter shows under its own name.

use std::path::Path;

/// An interpreter, and the letters of its options that take a value, attached or as the next word.
struct Interpreter {
    name: &'static str,
    valued: &'static str,
    /// Whether the value of `-m` is the module that it carries out.
    has_modules: bool,
}

const INTERPRETERS: [Interpreter; 5] = [
    Interpreter { name: "python", valued: "WX", has_modules: true },
    Interpreter { name: "pypy", valued: "WX", has_modules: true },
    Interpreter { name: "sh", valued: "o", has_modules: false },
    Interpreter { name: "dash", valued: "o", has_modules: false },
    Interpreter { name: "bash", valued: "oO", has_modules: false },
];
/// Long options whose value is the next word.
const LONG_VALUED: [&str; 3] = ["--check-hash-based-pycs", "--rcfile", "--init-file"];

/// The name of the program that a process carries out: its own, or that of the script or module that it interprets. `None`
/// for commands that stand in its arguments, and for an interpreter that is given nothing.
pub(crate) fn carried_out(args: &[String]) -> Option<String> {
    let named = |arg: &str| Path::new(arg).file_name().map(|name| name.to_string_lossy().into_owned());
    let own = named(args.first()?)?;
    let plain = own.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let Some(interpreter) = INTERPRETERS.iter().find(|one| one.name == plain) else { return Some(own) };
    let mut rest = args[1..].iter();
    while let Some(word) = rest.next() {
        if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.starts_with('-')) {
            match interpreter.option(letters) {
                Given::Nothing => {}
                Given::Value => drop(rest.next()),
                Given::Module("") => return named(rest.next()?),
                Given::Module(module) => return named(module),
                Given::Commands => return None,
            }
        } else if LONG_VALUED.contains(&word.as_str()) {
            rest.next();
        } else if !word.starts_with("--") {
            return named(word);
        }
    }
    None
}

/// What an option gives to an interpreter.
enum Given<'a> {
    Nothing,
    /// A value that is the next word.
    Value,
    /// A module; empty where it is the next word.
    Module(&'a str),
    /// Commands in the next word.
    Commands,
}

impl Interpreter {
    /// Reads the letters of one word of options.
    fn option<'a>(&self, letters: &'a str) -> Given<'a> {
        for (at, letter) in letters.char_indices() {
            let attached = &letters[at + letter.len_utf8()..];
            match letter {
                'c' => return Given::Commands,
                'm' if self.has_modules => return Given::Module(attached),
                valued if self.valued.contains(valued) && attached.is_empty() => return Given::Value,
                valued if self.valued.contains(valued) && self.has_modules => return Given::Nothing,
                _ => {}
            }
        }
        Given::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::carried_out;

    fn of(line: &str) -> Option<String> {
        carried_out(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_program_is_recognized_however_its_interpreter_was_told_to_carry_it_out() {
        for line in [
            "/usr/bin/patroni /etc/patroni.yml",
            "/usr/bin/python3 /usr/bin/patroni /etc/patroni.yml",
            "python3.11 -u /usr/local/bin/patroni /etc/patroni.yml",
            "python3 -W ignore -X dev -uB /opt/bin/patroni",
            "python3 -Wignore patroni",
            "python3 -m patroni /etc/patroni.yml",
            "/opt/venv/bin/python -um patroni",
            "python3 -mpatroni",
            "python3 --check-hash-based-pycs never /usr/bin/patroni",
            "bash -e /usr/local/bin/patroni",
            "bash -euo pipefail /usr/local/bin/patroni",
            "sh -e -o nounset -- /usr/local/bin/patroni",
            "pypy3 -u patroni",
        ] {
            assert_eq!(of(line).as_deref(), Some("patroni"), "{line}");
        }
    }

    #[test]
    fn what_only_names_a_program_does_not_carry_it_out() {
        for line in [
            "vi /etc/patroni.yml",
            "tail -f /var/log/patroni",
            "python3 /usr/bin/report patroni",
            "bash -c patroni-report",
            "python3 -c patroni",
            "python3 -m http.server patroni",
            "python3",
            "bash -l",
        ] {
            assert_ne!(of(line).as_deref(), Some("patroni"), "{line}");
        }
    }
}
