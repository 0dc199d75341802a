//! The configuration of a server within its data directory, and what of it PostgreSQL's own base backup leaves out.

use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Manifest, ManifestObject, ObjectRole};

/// Where the content of links lies in a backup; below it stands their path in the data directory.
const LINKED: &str = "pgdata/";

/// What a server read as its configuration. A path within its data directory is told below that, any other as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerConfiguration {
    /// `config_file`.
    pub config_file: String,
    /// `hba_file`.
    pub hba_file: String,
    /// Links in the data directory whose content could not be brought into the backup: nothing of them comes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl ServerConfiguration {
    /// The files in the data directory without which its server does not start.
    pub fn within(&self) -> impl Iterator<Item = &Path> {
        [&self.config_file, &self.hba_file].into_iter().map(Path::new).filter(|path| path.is_relative())
    }

    /// Whether the backup lacks a file of the data directory.
    #[must_use]
    pub fn misses(&self, own: &Path) -> bool {
        self.missing.iter().any(|missing| own.starts_with(missing))
    }
}

impl ManifestObject {
    /// The name of the object that holds what a link in the data directory leads to.
    #[must_use]
    pub fn linked_name(own: &Path) -> String {
        format!("{LINKED}{}", own.display())
    }

    /// Where it belongs in the data directory, as a plain file, when it is the content of what was a link there.
    #[must_use]
    pub fn linked(&self) -> Option<PathBuf> {
        if self.role != ObjectRole::Config {
            return None;
        }
        let name = self.plain_name();
        let own = Path::new(name.strip_prefix(LINKED)?);
        let stays = |component| matches!(component, Component::Normal(_));
        (own.components().next().is_some() && own.components().all(stays)).then(|| own.to_owned())
    }
}

impl Manifest {
    /// The files of the data directory that were links there, each with its path in it.
    pub fn linked_files(&self) -> impl Iterator<Item = (&ManifestObject, PathBuf)> {
        self.objects.iter().filter_map(|object| Some((object, object.linked()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;

    fn linked(name: &str, role: ObjectRole) -> Option<PathBuf> {
        ManifestObject::new(name, 1, Digest::of(b"x"), role).linked()
    }

    #[test]
    fn what_was_a_link_belongs_into_the_data_directory_and_nowhere_else() {
        let own = Path::new("conf.d/own.conf");
        assert_eq!(linked(&ManifestObject::linked_name(own), ObjectRole::Config).as_deref(), Some(own));
        for elsewhere in ["pgdata/../pg_hba.conf", "pgdata//etc/passwd", "pgdata/", "config/etc/pg_hba.conf"] {
            assert_eq!(linked(elsewhere, ObjectRole::Config), None, "{elsewhere}");
        }
        assert_eq!(linked("pgdata/pg_hba.conf", ObjectRole::File), None);
    }
}
