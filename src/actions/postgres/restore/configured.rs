//! The configuration that a restored data directory must hold itself. PostgreSQL's base backup leaves links out, so a backup may lack
//! it: then the data directory that is there lends its own, and where that has none either, nothing is begun.

use std::path::{Path, PathBuf};

use super::old::Old;
use super::stage::Unstaged;
use crate::action::{ActionError, CheckContext, FileKind, Files, Findings, HostError, ReadFiles, RunContext};
use crate::actions::postgres::backup::linked::is_readable_by;
use crate::actions::postgres::backup::outside::{self, LIMIT_BYTES};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::service_manager::Configuration;
use crate::actions::postgres::stores::readable::Reading;
use crate::base::RunId;
use crate::catalog::{ManifestObject, ServerConfiguration};

/// The main configuration by its usual name.
const CONFIG_FILE: &str = "postgresql.conf";
/// The clients that are let in, by its usual name.
const HBA_FILE: &str = "pg_hba.conf";
/// The map of users, without which a server starts.
const IDENT_FILE: &str = "pg_ident.conf";

/// How surely a server wants a file in its data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// It does not start without.
    Surely,
    /// It may keep it elsewhere: nobody noted where.
    Perhaps,
}

/// A file that a restored data directory would lack.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lack {
    own: PathBuf,
    want: Want,
    /// Where the data directory that is there has it.
    lent: Option<PathBuf>,
}

/// Judges whether a server would find its configuration in the data directory that a backup becomes.
pub(crate) async fn judge(cluster: &Cluster, reading: Reading<'_>, cx: &CheckContext, findings: Findings) -> Findings {
    let files = cx.host.read_files();
    let mut findings = findings;
    for lack in lacks(cluster, reading, (files.as_ref(), &cx.about.run)).await {
        let fact = lack.fact(&reading.backup.manifest.id);
        findings = match (&lack.lent, lack.want) {
            (Some(place), Want::Surely | Want::Perhaps) => {
                findings.warn(fact, format!("it is taken over from `{}`, which is still there", place.display()))
            }
            (None, Want::Surely) => findings.refuse(fact, lack.help(cluster)),
            (None, Want::Perhaps) => findings.warn(fact, lack.help(cluster)),
        };
    }
    findings
}

/// Refuses a backup whose server would not start, before anything of it is written.
///
/// # Errors
/// Fails when the backup lacks such a file and nothing lends it.
pub(crate) async fn refuse(cluster: &Cluster, reading: Reading<'_>, cx: &RunContext) -> Result<(), ActionError> {
    let files = cx.host.files();
    let lacks = lacks(cluster, reading, (files.as_ref(), &cx.about.run)).await;
    match lacks.into_iter().find(|lack| lack.lent.is_none() && lack.want == Want::Surely) {
        None => Ok(()),
        Some(lack) => Err(ActionError::fatal(lack.fact(&reading.backup.manifest.id)).help(lack.help(cluster))),
    }
}

impl Lack {
    fn fact(&self, backup: &str) -> String {
        let own = self.own.display();
        match self.want {
            Want::Surely => format!(
                "backup `{backup}` holds no `{own}`, and without it the server does not start: its data directory had it behind a \
                 link, which PostgreSQL leaves out, or not at all"
            ),
            Want::Perhaps => {
                format!(
                    "backup `{backup}` holds no `{own}`: where its server kept it elsewhere, that file must be there"
                )
            }
        }
    }

    fn help(&self, cluster: &Cluster) -> String {
        let own = self.own.display();
        if cluster.is_scratch() {
            return format!(
                "let runbook's own user on the server's machine read what `{own}` leads to, or put a plain file in the place of the \
                 link; then take a new backup"
            );
        }
        let place = cluster.pgdata.join(&self.own);
        let elsewhere = match (self.own == Path::new(CONFIG_FILE), cluster.service_manager().configuration()) {
            (true, Configuration::Inside) => {
                "; where the server keeps it elsewhere, add `options: \"-c config_file=…\"` under `via: { pg_ctl: … }`"
            }
            (true, Configuration::At(_) | Configuration::Unsaid) | (false, _) => "",
        };
        format!(
            "put one at `{}` (a link will do): it is taken over from there; or use a backup that has it{elsewhere}",
            place.display()
        )
    }
}

/// What a restored data directory would lack. A backup that cannot be read lacks nothing here: others say what is wrong with it.
async fn lacks(cluster: &Cluster, reading: Reading<'_>, (files, run): (&dyn ReadFiles, &RunId)) -> Vec<Lack> {
    let manifest = &reading.backup.manifest;
    let recorded = manifest.postgres.as_ref().and_then(|facts| facts.configuration.as_ref());
    let mut wanted = wanted(cluster, recorded, files);
    wanted.retain(|(own, _)| manifest.linked_files().all(|(_, linked)| linked != *own));
    let known = |own: &Path| recorded.filter(|recorded| recorded.within().any(|within| within == own));
    wanted.retain(|(own, _)| known(own).is_none_or(|recorded| recorded.misses(own)));
    if !wanted.iter().all(|(own, _)| known(own).is_some()) {
        use std::os::unix::ffi::OsStrExt as _;
        let Ok(listed) = reading.server_manifest().await else { return Vec::new() };
        wanted.retain(|(own, _)| listed.file(own.as_os_str().as_bytes()).is_none());
    }
    // Where the server keeps it elsewhere, the backup has it from there.
    let kept_elsewhere = |own: &Path| manifest.objects.iter().any(|object| is_of(object, own));
    wanted.retain(|(own, want)| *want == Want::Surely || !kept_elsewhere(own));
    let lend = |own: &Path| if cluster.is_scratch() { None } else { lent(own, cluster, (files, run)) };
    wanted.into_iter().map(|(own, want)| Lack { lent: lend(&own), own, want }).collect()
}

/// Whether an object is a configuration file of that name from outside the data directory.
fn is_of(object: &ManifestObject, own: &Path) -> bool {
    outside::origin(object).is_some_and(|origin| origin.file_name() == own.file_name())
}

/// The files that the server of a cluster wants in its data directory. A throw-away one brings its own and wants none for itself: a
/// drill wants what the real server would.
fn wanted(cluster: &Cluster, recorded: Option<&ServerConfiguration>, files: &dyn ReadFiles) -> Vec<(PathBuf, Want)> {
    let noted = || recorded.iter().flat_map(|recorded| recorded.within()).map(|own| (own.to_owned(), Want::Surely));
    if cluster.is_scratch() {
        return if cluster.side.is_some() { Vec::new() } else { noted().collect() };
    }
    let hba = || match recorded {
        Some(recorded) => Some(PathBuf::from(&recorded.hba_file)).filter(|own| own.is_relative()),
        None => None,
    };
    let perhaps = || recorded.is_none().then(|| (PathBuf::from(HBA_FILE), Want::Perhaps));
    let surely = |own: PathBuf| (own, Want::Surely);
    match cluster.service_manager().configuration() {
        Configuration::Inside => {
            let main = surely(PathBuf::from(CONFIG_FILE));
            std::iter::once(main).chain(hba().map(surely)).chain(perhaps()).collect()
        }
        Configuration::At(file) => match cluster.within_pgdata(&file, files) {
            Some(own) => std::iter::once(surely(own)).chain(hba().map(surely)).chain(perhaps()).collect(),
            // It names the other files itself.
            None if recorded.is_some_and(|recorded| Path::new(&recorded.config_file) == file) => {
                hba().map(surely).into_iter().collect()
            }
            None => Vec::new(),
        },
        Configuration::Unsaid => noted().collect(),
    }
}

/// Where the data directory that is there has a file, be that behind a link.
fn lent(own: &Path, cluster: &Cluster, (files, run): (&dyn ReadFiles, &RunId)) -> Option<PathBuf> {
    let old = Old::find(cluster, run, files).ok().flatten()?;
    let place = old.dir.join(own);
    files.facts(&place).ok().flatten()?;
    // A link in a container leads to another place than here.
    let real = if cluster.is_contained() { place.clone() } else { files.canonical(&place).ok()? };
    let (kind, owned) = (files.facts(&real).ok().flatten()?.kind, files.facts(&old.dir).ok().flatten()?);
    let is_of_server = is_readable_by(&owned, &real, files).unwrap_or_default();
    (kind == FileKind::File && is_of_server && files.open(&real).is_ok()).then_some(place)
}

/// Puts the configuration that PostgreSQL's own backup lacks into a staged data directory: what was behind links from the
/// backup, what that lacks from the data directory that is there.
///
/// # Errors
/// Fails when the backup's cannot be read, and when a file cannot be written.
pub(crate) async fn complete(
    dir: &Path,
    (cluster, owner): (&Cluster, &Owner),
    reading: Reading<'_>,
    cx: &RunContext,
) -> Result<(), Unstaged> {
    let (files, manifest) = (cx.host.files(), &reading.backup.manifest);
    let mut made: Vec<String> = Vec::new();
    for (object, own) in manifest.linked_files() {
        let bytes = outside::read(reading, object).await.map_err(Unstaged::Copy)?;
        write(files.as_ref(), (dir, &own), &bytes, owner).map_err(|error| unwritten(&own, &error))?;
        made.push(format!("`{}`", own.display()));
    }
    if !made.is_empty() {
        let message = format!(
            "links of the data directory are plain files in the restored one, with the content of the backup: {}",
            made.join(", ")
        );
        cx.reporter.note(message, serde_json::json!({ "files": made }));
    }
    if cluster.is_scratch() {
        return Ok(());
    }
    let recorded = manifest.postgres.as_ref().and_then(|facts| facts.configuration.as_ref());
    let missing = recorded.iter().flat_map(|recorded| &recorded.missing).map(PathBuf::from);
    for own in [CONFIG_FILE, HBA_FILE, IDENT_FILE].map(PathBuf::from).into_iter().chain(missing) {
        let is_there = files.facts(&dir.join(&own)).map_err(|error| unwritten(&own, &error))?.is_some();
        let Some(place) = lent(&own, cluster, (files.as_ref(), &cx.about.run)).filter(|_| !is_there) else { continue };
        let bytes = files.read(&place, LIMIT_BYTES).map_err(|error| unwritten(&own, &error))?;
        write(files.as_ref(), (dir, &own), &bytes, owner).map_err(|error| unwritten(&own, &error))?;
        let message = format!(
            "the backup holds no `{}`: it was taken over from the data directory that is there (`{}`)",
            own.display(),
            place.display()
        );
        cx.reporter.note(message, serde_json::json!({ "file": place }));
    }
    Ok(())
}

fn write(files: &dyn Files, (dir, own): (&Path, &Path), bytes: &[u8], owner: &Owner) -> Result<(), HostError> {
    let folders: Vec<&Path> = own.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
    for folder in folders.into_iter().rev().map(|folder| dir.join(folder)) {
        if files.facts(&folder)?.is_none() {
            files.create_dir(&folder, 0o700)?;
            files.chown(&folder, owner.uid, owner.gid)?;
        }
    }
    files.replace_for(&dir.join(own), bytes, 0o600, owner.ids())
}

fn unwritten(own: &Path, error: &HostError) -> ActionError {
    ActionError::retryable(format!("`{}` cannot be put into the restored data directory", own.display())).because(error)
}
