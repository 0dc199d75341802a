//! Configuration files that a server keeps outside its data directory: no base backup holds them, and WAL does not
//! restore them (facts 2.3.8).

use std::path::{Path, PathBuf};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use super::delivery::{Arrivals, Delivery, Item};
use crate::action::{ActionError, Files, HostError, RunContext};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::stores::readable::Reading;
use crate::catalog::{Manifest, ManifestObject, ObjectRole};

/// No configuration file is larger.
const LIMIT_BYTES: u64 = 16 << 20;
/// The folder of their objects in a backup; below it stands the absolute path.
const FOLDER: &str = "config";

/// The files that a server says it reads, and that lie outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outside {
    /// Their absolute paths.
    Known(Vec<PathBuf>),
    /// The role may not know.
    Untold,
}

/// Included files only a superuser may ask for.
const PATHS: &str = "SELECT DISTINCT path FROM ( \
 SELECT setting FROM pg_settings WHERE name IN ('config_file', 'hba_file', 'ident_file') \
 UNION ALL SELECT sourcefile FROM pg_settings) AS all_of_them(path) WHERE path LIKE '/%' ORDER BY 1";

impl Outside {
    /// Asks a server. Only a role that may read all settings is told where its files are.
    ///
    /// # Errors
    /// Fails when the connection is lost.
    pub(crate) async fn of(session: &mut Session) -> Result<Self, ActionError> {
        let home = session.query("SELECT setting FROM pg_settings WHERE name = 'data_directory'").await?;
        let Some(home) = home.first().map(PathBuf::from) else { return Ok(Self::Untold) };
        let listed = session.query(PATHS).await?;
        let paths = listed.rows.into_iter().filter_map(|row| row.into_iter().next().flatten().map(PathBuf::from));
        Ok(Self::Known(paths.filter(|path| !path.starts_with(&home)).collect()))
    }

    /// Stores them beside the backup. One that cannot be read is noted: it never spoils the backup.
    pub(crate) async fn bring(
        &self,
        delivery: &Delivery<'_>,
        arrivals: &mut Arrivals,
        (cluster, cx): (&Cluster, &RunContext),
    ) {
        let paths = match self {
            Self::Known(paths) => paths,
            Self::Untold => {
                let message = "configuration files outside the data directory are not in the backup, if there are any: \
                               the role may not know where they are (`GRANT pg_monitor` lets it)";
                return cx.reporter.note(message.to_owned(), serde_json::Value::Null);
            }
        };
        let files = cx.host.read_files();
        // A container's paths are not this machine's. Nobody may need docker for a backup.
        let server_host = ServerHost::seen(cluster, cx.host.as_read()).await.ok().flatten();
        for path in paths {
            let Some(here) = server_host.as_ref().and_then(|server_host| server_host.outside(path)) else {
                let message =
                    format!("the configuration file `{}` is in the container only, not in the backup", path.display());
                cx.reporter.note(message, serde_json::json!({ "path": path }));
                continue;
            };
            match files.read(&here, LIMIT_BYTES) {
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

/// What becomes of the configuration files of a backup when it is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfigFiles {
    /// They are put into a folder beside the data directory, below their own paths.
    #[default]
    Beside,
    /// Those that are missing are put where they were; what exists is never touched.
    Missing,
    /// They are left in the backup.
    Leave,
}

/// Puts the configuration files of a backup back as it is asked for; gives where they lie now.
///
/// # Errors
/// Fails when one cannot be read or written.
pub(crate) async fn put_back(
    reading: Reading<'_>,
    (how, beside): (ConfigFiles, &Path),
    owner: &Owner,
    cx: &RunContext,
) -> Result<Vec<PathBuf>, ActionError> {
    let files = cx.host.files();
    let mut made = Vec::new();
    for (object, origin) in self::files(&reading.backup.manifest) {
        let place = match how {
            ConfigFiles::Leave => continue,
            ConfigFiles::Beside => beside.join(origin.strip_prefix("/").unwrap_or(&origin)),
            ConfigFiles::Missing => origin.clone(),
        };
        let there = files.facts(&place).map_err(|error| unwritten(&place).because(&error))?;
        if there.is_some() && how == ConfigFiles::Missing {
            continue;
        }
        let bytes = read(reading, object).await?;
        write(files.as_ref(), &place, &bytes, owner).map_err(|error| unwritten(&place).because(&error))?;
        made.push(place);
    }
    Ok(made)
}

async fn read(reading: Reading<'_>, object: &ManifestObject) -> Result<Vec<u8>, ActionError> {
    if object.plain_facts().size_bytes > LIMIT_BYTES {
        return Err(ActionError::fatal(format!("`{}` is longer than {LIMIT_BYTES} bytes", object.name)));
    }
    let mut bytes = Vec::new();
    let judged = reading.judge_object(object, &mut bytes).await?;
    judged.map(|()| bytes).map_err(|fault| ActionError::fatal(fault).help("use another backup"))
}

fn write(files: &dyn Files, place: &Path, bytes: &[u8], owner: &Owner) -> Result<(), HostError> {
    if let Some(parent) = place.parent() {
        let missing: Vec<&Path> = parent.ancestors().take_while(|path| matches!(files.facts(path), Ok(None))).collect();
        for folder in missing.into_iter().rev() {
            files.create_dir(folder, 0o755)?;
            files.chown(folder, owner.uid, owner.gid)?;
        }
    }
    files.replace_for(place, bytes, 0o640, owner.ids())
}

fn unwritten(place: &Path) -> ActionError {
    ActionError::retryable(format!("the configuration file `{}` cannot be put back", place.display()))
}

/// The configuration files of a backup, each with the place it came from.
fn files(manifest: &Manifest) -> impl Iterator<Item = (&ManifestObject, PathBuf)> {
    manifest.objects.iter().filter(|object| object.role == ObjectRole::Config).filter_map(|object| {
        let name = object.plain_name();
        let path = Path::new("/").join(name.strip_prefix(FOLDER)?.trim_start_matches('/'));
        Some((object, path))
    })
}
