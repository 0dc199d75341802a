//! The table of diagnostic codes. A code never changes its meaning; a retired number is not used again.

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is run.
    Error,
    /// Shown; an error under `--strict`.
    Warning,
    /// Shown by `check`, and never an error.
    Note,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $severity:ident, $title:literal;)+) => {
        /// A stable diagnostic code such as `RB0102`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// Every code, in order.
            pub const ALL: &[Code] = &[$(Code::$variant,)+];

            /// The code as users see it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)+ }
            }

            /// Whether the code is an error or a warning by nature.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Code::$variant => Severity::$severity,)+ }
            }

            /// A few words, as a heading.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)+ }
            }

            /// What it means and what to do, in sentences: the text of `runbook explain`.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Code::$variant => concat!($($doc, "\n"),+),)+ }
            }
        }
    };
}

// The doc comment of a code is the text of `runbook explain`.
codes! {
    /// The file is missing, is a folder, or may not be read. Check the path and its permissions.
    UnreadableFile = "RB0001", Error, "the file cannot be read";
    /// The file is not UTF-8 text. A runbook is a text file; perhaps the path names an archive.
    NotText = "RB0002", Error, "the file is not text";
    /// The file holds nothing. A runbook needs at least `version`, `name` and `steps`.
    EmptyFile = "RB0003", Error, "the file is empty";
    /// The text is not well-formed YAML: an unclosed quote, a bad indentation, a stray character.
    Syntax = "RB0004", Error, "not well-formed YAML";
    /// YAML forbids tabs for indentation. Use spaces.
    TabIndentation = "RB0005", Error, "a tab is used for indentation";
    /// The document is larger, deeper or expands further than any real runbook: refused as hostile.
    Budget = "RB0006", Error, "the document is too large";
    /// The same key stands twice in one mapping; one of them would be silently lost.
    DuplicateKey = "RB0007", Error, "a key is given twice";
    /// The key is not part of the language, so it would have no effect.
    UnknownKey = "RB0101", Error, "unknown key";
    /// A key that must be there is missing.
    MissingKey = "RB0102", Error, "missing key";
    /// The value has another type than this key takes.
    WrongType = "RB0103", Error, "wrong type";
    /// The value is not one of those this key takes.
    UnknownValue = "RB0104", Error, "unknown value";
    /// A duration is whole numbers with `ms`, `s`, `m`, `h` or `d`: `90s`, `15m`, `1h30m`.
    BadDuration = "RB0105", Error, "not a duration";
    /// A size is a whole number with an optional unit: `512`, `16MiB`, `5GB`.
    BadSize = "RB0106", Error, "not a size";
    /// A point in time is RFC 3339 with an offset, or local time with a zone name: `2026-01-28T15:30:00Z`, `14:30 Europe/Berlin`, `5m ago`.
    BadTimestamp = "RB0107", Error, "not a point in time";
    /// Without an offset the time depends on the machine that reads it. Add `Z`, `+02:00` or a zone name.
    TimestampWithoutOffset = "RB0108", Error, "a time without offset";
    /// A name is `[a-z][a-z0-9_]*`; a hyphen would read as minus in a template. Runbooks, databases, services, hosts and stores may have hyphens.
    BadName = "RB0109", Error, "not a name";
    /// Only version 1 of the language exists.
    UnsupportedVersion = "RB0110", Error, "unsupported version";
    /// Two steps have the same id.
    DuplicateId = "RB0201", Error, "an id is given twice";
    /// `needs` names a step that does not exist.
    UnknownStep = "RB0202", Error, "unknown step";
    /// A step cannot wait for itself.
    SelfNeed = "RB0203", Error, "a step needs itself";
    /// The steps wait for each other in a circle, so none could ever start.
    Cycle = "RB0204", Error, "steps need each other in a circle";
    /// No action has this name; `runbook actions` lists them.
    UnknownAction = "RB0205", Error, "unknown action";
    /// The inventory has no database of this name.
    UnknownDatabase = "RB0206", Error, "unknown database";
    /// The inventory has no service of this name.
    UnknownService = "RB0207", Error, "unknown service";
    /// The inventory has no store of this name.
    UnknownStore = "RB0208", Error, "unknown store";
    /// No secret of this name is declared.
    UnknownSecret = "RB0209", Error, "unknown secret";
    /// No phase of this id is declared.
    UnknownPhase = "RB0210", Error, "unknown phase";
    /// The inventory expects no backup of this name under `backups`.
    UnknownBackup = "RB0211", Error, "unknown expected backup";
    /// The template names something that does not exist.
    UnknownTemplateName = "RB0301", Error, "unknown template name";
    /// The template itself is not well-formed.
    TemplateSyntax = "RB0302", Error, "the template is not well-formed";
    /// An output can be read only of a step that is certain to have ended before: one reached through `needs`.
    NotAnAncestor = "RB0303", Error, "the step read is not an ancestor";
    /// The action of that step has no such output.
    UnknownOutput = "RB0304", Error, "unknown output";
    /// What names a target must be known before the first step runs, so that it can be shown, judged and locked.
    LateTarget = "RB0305", Error, "a late value where a target is named";
    /// A secret may flow into an argument marked secret, an environment variable or a file; argv, names and outputs can be seen by others.
    SecretInArgv = "RB0306", Error, "a secret where others can see it";
    /// The step does not take part in every mode in which its reader does.
    AbsentInMode = "RB0307", Error, "the step read is absent in a mode";
    /// The file includes itself, directly or through others.
    IncludeCycle = "RB0401", Error, "files include each other in a circle";
    /// The included file does not exist; paths are relative to the including file.
    MissingInclude = "RB0402", Error, "the included file is missing";
    /// The same name is defined in two files. Only `vars` and `environments.<name>.*` merge.
    DuplicateName = "RB0403", Error, "a name is defined twice";
    /// An included file shares an inventory and may not have steps of its own.
    NotAnInventory = "RB0404", Error, "the included file is a runbook";
    /// Includes are nested too deeply.
    IncludeDepth = "RB0405", Error, "includes are nested too deeply";
    /// Runbooks use each other in a circle, so that the run would never end.
    RunbookCycle = "RB0406", Error, "runbooks use each other in a circle";
    /// The runbook that a step uses does not exist. Its path is relative to the file that names it; a shipped runbook is found by its name.
    MissingRunbook = "RB0407", Error, "the sub-runbook is missing";
    /// Sub-runbooks are nested too deeply, or all of them together have too many steps.
    RunbookDepth = "RB0408", Error, "sub-runbooks are too deep or too many";
    /// The parameter is declared and never read.
    UnusedParam = "RB0501", Warning, "unused parameter";
    /// The variable is declared and never read.
    UnusedVar = "RB0502", Warning, "unused variable";
    /// `pass_env` lists a variable of the environment, but no template reads it and the runbook starts no program that would get it.
    UnusedEnvVar = "RB0503", Warning, "unused variable of the environment";
    /// A store encrypts to a single public key, or none of its recipients is marked `offline: true`. An encrypted backup is worth what its keys are worth: add a recipient whose identity is kept away from the site. An error (RB0112) where a protected environment writes to the store. `runbook doctor --keys` tries the keys.
    FewRecipients = "RB0504", Warning, "too few recipients of encrypted backups";
    /// Every store that a protected environment can write to is a folder of the machine its database runs on. The disk, the machine or the room that takes the database takes its backups too: keep three copies on two kinds of media, one of them elsewhere. A folder that is the mount of another machine's disk looks the same from here. Name a store elsewhere in the entry's `backup_stores` and `wal_stores`, or copy to it with `copy-offsite`. `check` and `status` say it; commands that run something do not.
    CopiesOnOneMachine = "RB0505", Warning, "all copies on the database's own machine";
    /// Every store that a protected environment can write to lies in one bucket, with one server, or in one account and region. Who holds its credentials, and whatever closes the account or the region, takes all copies at once. A second store in another region, with credentials of its own, is the usual answer; Object Lock helps against the first kind only.
    CopiesInOnePlace = "RB0506", Note, "all copies in one account or region";
    /// A script does what is known to lose data, on a server that says nothing of it: it writes a `recovery.conf`, which PostgreSQL 12 and later refuse; or it has the server archive or fetch WAL by a program that overwrites, whose failures are not counted, or whose network errors look like the end of the WAL; it keeps a dump whose failure nobody sees (a pipe in a shell without `pipefail`, `|| true`); or it removes WAL by its age alone. The message names which.
    HazardInScript = "RB0507", Warning, "a script that is known to lose data";
    /// WAL is archived or is to be replayed, and every backup that the runbook makes or looks for is a dump. A dump holds rows and no pages: no WAL can be replayed on it, so a point in time between two dumps cannot be had, whatever the archive holds. Take a base backup (`postgres.base_backup`), or promise no more than the time between two dumps.
    DumpsOnly = "RB0508", Warning, "WAL that no backup can use";
    /// The `archive_timeout` that a step sets, together with the minute after which the server tries a failed segment again, is longer than the runbook's RPO. An unfinished segment is handed over after that time, so up to as much is lost with the machine. Lower it, or promise less.
    LateSegments = "RB0509", Warning, "an `archive_timeout` that cannot keep the RPO";
    /// Two entries of `databases` name the same store and the same `prefix`. Backups and WAL of two servers must not mix: the archive refuses the WAL of a second cluster, and `retention` would count the backups of both as those of one. Give each server a `prefix` of its own. A standby that has an entry of its own shares the place of its primary rightly.
    SharedPlace = "RB0510", Warning, "one place of two databases";
    /// A store is a folder in or below the data directory of a database, or the place of one of its tablespaces. A restore moves the old data aside or removes it, and the store with it; the copy of the store that a base backup brought is then taken for the archive, and WAL that it has not is called absent. Every base backup also holds all earlier ones. Backups, restores and archiving are refused before they begin. Move the folder out of the data, name the new place as the store's `url`, and run `setup-archiving`; `docs/stores.md` has the commands.
    StoreInData = "RB0511", Warning, "a store in the data of a database";
    /// A protected environment writes backups that only keys of the same site can read: one recipient, or none marked `offline: true`. The day the site is lost they are lost with it. Make a second key with `age-keygen`, put its identity into a safe, and name its public half: `{ key: age1…, name: safe, offline: true }`. `runbook doctor --keys` tries the keys.
    KeysLostWithSite = "RB0112", Error, "encrypted backups whose keys are lost with the site";
    /// A protected environment connects to a database over a network, and whoever answers at that address is taken for the server: `sslmode` is not `verify-full`. A wrong name, a stolen address or a machine in the middle gets the password and the data, and its answers decide what is restored. Set `sslmode: verify-full`, and `root_cert` to the file of the authority where it is one of your own. A socket and the loopback address need no proof.
    UnprovenServer = "RB0113", Error, "a server that proves nothing over a network";
    /// The step wants of a server what nothing here can do: a provider keeps it (`via: { managed: {} }`), so that nobody but the provider can stop it, copy its files or recover it; or it runs in a container, whose data directory is never written to from outside. The help names what to do instead; `docs/servers.md` has the whole table.
    OutOfReach = "RB0114", Error, "a step that the server is out of reach of";
    /// The combination of keys makes no sense together.
    BadCombination = "RB0111", Error, "keys that exclude each other";
}
