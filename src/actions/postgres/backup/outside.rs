//! Configuration files of a server: no base backup holds those that it keeps outside its data directory, and WAL does not
//! restore them (facts 2.3.8).

use std::collections::BTreeSet;
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
use crate::catalog::{Manifest, ManifestObject, ObjectRole, ServerConfiguration};
use crate::event::ErrorClass;

/// No configuration file is larger.
pub(crate) const LIMIT_BYTES: u64 = 16 << 20;
/// The folder of their objects in a backup; below it stands the absolute path.
const FOLDER: &str = "config";

/// Where a server says that its configuration lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigurationPlaces {
    /// Here.
    Known(Places),
    /// The role may not know.
    Untold,
}

/// The files that a server reads as its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// Those outside its data directory: their absolute paths.
    outside: Vec<PathBuf>,
    /// Those within it: their paths below it.
    within: Vec<PathBuf>,
    /// `config_file` and `hba_file`, below the data directory where they are within it.
    main: [PathBuf; 2],
}

/// Included files only a superuser may ask for.
const PATHS: &str = "SELECT DISTINCT path FROM ( \
 SELECT setting FROM pg_settings WHERE name IN ('config_file', 'hba_file', 'ident_file') \
 UNION ALL SELECT sourcefile FROM pg_settings) AS all_of_them(path) WHERE path LIKE '/%' ORDER BY 1";

/// Views that name further files, each with its column and its function: a file whose every setting is overridden elsewhere is the
/// source of none, and files of clients include others from PostgreSQL 16 on. Without a grant only a superuser reads them.
const FURTHER: [[&str; 3]; 3] = [
    ["pg_file_settings", "sourcefile", "pg_show_all_file_settings"],
    ["pg_hba_file_rules", "file_name", "pg_hba_file_rules"],
    ["pg_ident_file_mappings", "file_name", "pg_ident_file_mappings"],
];

/// What no server starts without.
const MAIN: [&str; 2] = ["config_file", "hba_file"];

impl ConfigurationPlaces {
    /// Asks a server. Only a role that may read all settings is told where its files are.
    ///
    /// # Errors
    /// Fails when the connection is lost.
    pub(crate) async fn of(session: &mut Session) -> Result<Self, ActionError> {
        let home = session.query("SELECT setting FROM pg_settings WHERE name = 'data_directory'").await?;
        let Some(home) = home.first().map(PathBuf::from) else { return Ok(Self::Untold) };
        let mut listed = session.query(PATHS).await?.rows;
        for [view, column, function] in FURTHER {
            // Asked before, so that no refusal stands in the server's log at every backup.
            let may = session
                .value(&format!(
                    "SELECT coalesce(has_table_privilege(to_regclass('pg_catalog.{view}'), 'SELECT') \
                     AND has_function_privilege(to_regprocedure('pg_catalog.{function}()'), 'EXECUTE') \
                     AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('pg_catalog.{view}') \
                     AND attname = '{column}'), false)"
                ))
                .await?;
            if may == "t" {
                let sql = format!("SELECT DISTINCT {column} FROM pg_catalog.{view} WHERE {column} LIKE '/%'");
                match session.query(&sql).await {
                    Ok(found) => listed.extend(found.rows),
                    Err(error) if error.info().class == ErrorClass::Retryable => return Err(error),
                    // A server runs on without the file that it would have to read for this, and refuses to tell.
                    Err(_) => {}
                }
            }
        }
        let paths = listed.into_iter().filter_map(|row| row.into_iter().next().flatten().map(PathBuf::from));
        let paths: BTreeSet<PathBuf> = paths.collect();
        let own = |path: PathBuf| path.strip_prefix(&home).map(Path::to_owned).unwrap_or(path);
        let (outside, within) = paths.into_iter().map(own).partition(|path| path.is_absolute());
        let mut main = Vec::new();
        for name in MAIN {
            main.push(own(session.value(&format!("SELECT current_setting('{name}')")).await?.into()));
        }
        let Ok(main) = main.try_into() else { return Ok(Self::Untold) };
        Ok(Self::Known(Places { outside, within, main }))
    }

    /// The files within the data directory, by their paths below it.
    pub(crate) fn within(&self) -> &[PathBuf] {
        match self {
            Self::Known(places) => &places.within,
            Self::Untold => &[],
        }
    }

    /// What the manifest keeps of them, and of what of the data directory is missing in the backup.
    pub(crate) fn recorded(&self, missing: &[PathBuf]) -> Option<ServerConfiguration> {
        let Self::Known(Places { main: [config_file, hba_file], .. }) = self else { return None };
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let missing = missing.iter().map(text).collect();
        Some(ServerConfiguration { config_file: text(config_file), hba_file: text(hba_file), missing })
    }

    /// Stores those outside the data directory beside the backup. One that cannot be read is noted: it never spoils the backup.
    pub(crate) async fn bring(
        &self,
        delivery: &Delivery<'_>,
        arrivals: &mut Arrivals,
        (cluster, cx): (&Cluster, &RunContext),
    ) {
        let paths = match self {
            Self::Known(places) => &places.outside,
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

/// Reads a configuration file of a backup.
///
/// # Errors
/// Fails when it is damaged or cannot be read.
pub(crate) async fn read(reading: Reading<'_>, object: &ManifestObject) -> Result<Vec<u8>, ActionError> {
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
    manifest.objects.iter().filter_map(|object| Some((object, origin(object)?)))
}

/// The place outside the data directory that an object of a backup came from; `None` for one of anything else.
pub(crate) fn origin(object: &ManifestObject) -> Option<PathBuf> {
    if object.role != ObjectRole::Config {
        return None;
    }
    let name = object.plain_name();
    Some(Path::new("/").join(name.strip_prefix(FOLDER)?.trim_start_matches('/')))
}
