//! The command line of `wal push` in a server's settings: the one place that tells whether an `archive_command` is ours.

use std::path::PathBuf;

use crate::base::shell;

/// A command of ours, as `archive_command` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program.
    pub program: PathBuf,
    /// The configuration that it reads; a relative path counts from the data directory.
    pub config: PathBuf,
    /// The other words: none where the server runs nothing but `wal push`.
    pub around: Vec<String>,
}

impl Invocation {
    /// Finds `wal push` in a command, however it is quoted; `None` where it is another program's.
    #[must_use]
    pub fn of(command: &str) -> Option<Self> {
        let mut words = shell::words(&command.replace("%%", "%"));
        let at =
            words.windows(3).position(|three| three[0] == "wal" && three[1] == "push" && three[2] == "--config")?;
        let config = PathBuf::from(words.get(at + 3)?);
        let program = PathBuf::from(words.get(at.checked_sub(1)?)?);
        let mut behind = words.split_off(at + 4);
        words.truncate(at - 1);
        if behind.first().is_some_and(|word| word == "%p") {
            behind.remove(0);
        }
        words.extend(behind);
        Some(Self { program, config, around: words })
    }

    /// Whether the server runs nothing but `wal push`: then nobody else relies on the command, and it may be written anew.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.around.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Invocation;

    fn of(command: &str) -> Option<(String, String)> {
        let found = Invocation::of(command)?;
        Some((found.program.display().to_string(), found.config.display().to_string()))
    }

    fn pair(program: &str, config: &str) -> Option<(String, String)> {
        Some((program.to_owned(), config.to_owned()))
    }

    #[test]
    fn the_configuration_is_found_in_a_command_however_it_is_quoted() {
        let plain = "/usr/bin/runbook wal push --config /etc/rb/wal.yaml %p";
        assert_eq!(of(plain), pair("/usr/bin/runbook", "/etc/rb/wal.yaml"));
        let ours = r#"'/opt/it'\''s/runbook' wal push --config '/var/lib/a 100%%/wal.yaml' %p"#;
        assert_eq!(of(ours), pair("/opt/it's/runbook", "/var/lib/a 100%/wal.yaml"));
        assert_eq!(of(r#"nice runbook wal push --config "/a b" "%p""#), pair("runbook", "/a b"));
        assert_eq!(of("pgbackrest --stanza=main archive-push %p"), None);
        assert_eq!(of("runbook wal push --config"), None);
        assert_eq!(of("wal push --config /a %p"), None);
    }

    #[test]
    fn what_stands_around_a_command_of_ours_is_told() {
        let around = |command: &str| Invocation::of(command).map(|found| found.around.join(" "));
        assert_eq!(around("'/a b/runbook' wal push --config wal.json %p").as_deref(), Some(""));
        assert_eq!(around("runbook wal push --config wal.json \"%p\"").as_deref(), Some(""));
        assert_eq!(around("nice runbook wal push --config w %p 2>/dev/null").as_deref(), Some("nice 2>/dev/null"));
        let both = "cp %p /mnt/%f && runbook wal push --config w %p";
        assert!(!Invocation::of(both).is_some_and(|found| found.is_alone()), "somebody may rely on the copy");
        assert!(Invocation::of("runbook wal push --config w %p").is_some_and(|found| found.is_alone()));
        assert_eq!(Invocation::of("echo a wal push of %p"), None);
    }
}
