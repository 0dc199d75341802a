//! Configuration files that a server keeps outside its data directory: no base backup holds them, and WAL does not
//! restore them (facts 2.3.8).

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::connect::Session;
use super::delivery::{Arrivals, Delivery, Item};
use crate::action::{ActionError, RunContext};
use crate::catalog::{Manifest, ManifestObject, ObjectRole};

/// No configuration file is larger.
const LIMIT_BYTES: u64 = 16 << 20;
/// The folder of their objects in a backup; below it stands the absolute path.
const FOLDER: &str = "config";

/// The files that a server says it reads, and that lie outside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outside {
    /// Their absolute paths.
    pub(crate) paths: Vec<PathBuf>,
}

/// Included files only a superuser may ask for.
const PATHS: &str = "SELECT DISTINCT path FROM ( \
 SELECT setting FROM pg_settings WHERE name IN ('config_file', 'hba_file', 'ident_file') \
 UNION ALL SELECT sourcefile FROM pg_settings) AS all_of_them(path) WHERE path LIKE '/%' ORDER BY 1";

impl Outside {
    /// Asks a server. One that tells nothing of its files has none.
    ///
    /// # Errors
    /// Fails when the connection is lost.
    pub(crate) async fn of(session: &mut Session) -> Result<Self, ActionError> {
        let home = session.query("SELECT setting FROM pg_settings WHERE name = 'data_directory'").await?;
        let Some(home) = home.first().map(PathBuf::from) else { return Ok(Self::default()) };
        let listed = session.query(PATHS).await?;
        let paths = listed.rows.into_iter().filter_map(|row| row.into_iter().next().flatten().map(PathBuf::from));
        Ok(Self { paths: paths.filter(|path| !path.starts_with(&home)).collect() })
    }

    /// Stores them beside the backup. One that cannot be read is noted: it never spoils the backup.
    pub(crate) async fn bring(&self, delivery: &Delivery<'_>, arrivals: &mut Arrivals, cx: &RunContext) {
        let files = cx.host.read_files();
        for path in &self.paths {
            match files.read(path, LIMIT_BYTES) {
                Ok(bytes) => {
                    let item = Item::new(format!("{FOLDER}{}", path.display()), ObjectRole::Config);
                    delivery.bring_small(&item, &Bytes::from(bytes), arrivals).await;
                }
                Err(error) => {
                    let why = std::error::Error::source(&error).map_or_else(String::new, |why| format!(": {why}"));
                    let message = format!("the configuration file `{}` is not in the backup{why}", path.display());
                    cx.reporter.note(message, serde_json::json!({ "path": path }));
                }
            }
        }
    }
}

/// The configuration files of a backup, each with the place it came from.
pub(crate) fn files(manifest: &Manifest) -> impl Iterator<Item = (&ManifestObject, PathBuf)> {
    manifest.objects.iter().filter(|object| object.role == ObjectRole::Config).filter_map(|object| {
        let name = object.plain_name();
        let path = Path::new("/").join(name.strip_prefix(FOLDER)?.trim_start_matches('/'));
        Some((object, path))
    })
}
