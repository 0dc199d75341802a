//! Which backup is chosen, over a real folder: proofs, chances, chains, missing objects, manifests that were copied.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook::action::{ObjectKey, PutOptions, Store};
use runbook::base::{Digest, Timestamp};
use runbook::catalog::attest::{Proof, Verdict, prove};
use runbook::catalog::{
    Backup, CatalogError, KIND_FILES, KIND_POSTGRES_DUMP, Manifest, ManifestObject, ObjectRole, Pick, Proven, Query,
    commit, find, find_among, list,
};
use runbook::language::inventory::StoreEntry;
use runbook::store::Opening;

use crate::support::cli::Cli;

struct Shelf {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
}

fn id(day: u32) -> String {
    format!("2026-01-{day:02}")
}

fn at(day: u32) -> Timestamp {
    format!("2026-01-{day:02}T00:00:00Z").parse().unwrap()
}

/// What a drill found of a backup.
fn drilled(backup: &Backup, verdict: Verdict) -> Proof {
    Proof {
        format: 1,
        backup: backup.manifest.id.clone(),
        manifest: backup.digest,
        run: "20260128-143002-000001".to_owned(),
        mode: "drill".to_owned(),
        environment: "drill".to_owned(),
        at: at(20),
        took_ms: 1,
        reached_lsn: None,
        checks: Vec::new(),
        verdict,
        facts: None,
    }
}

impl Shelf {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().join("store").display());
        let store = Opening::plain(&StoreEntry { url, ..StoreEntry::default() }, "near").open().unwrap();
        Self { folder, store }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("store").join(below)
    }

    async fn put(&self, key: &str, text: &str) {
        let key: ObjectKey = key.parse().unwrap();
        let metadata = [("sha256".to_owned(), Digest::of(text.as_bytes()).to_string())].into();
        let body = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
        self.store.put(&key, body, PutOptions { metadata, ..PutOptions::default() }).await.unwrap();
    }

    /// A backup of that day.
    async fn backup(&self, day: u32, parent: Option<u32>) -> Backup {
        self.put(&format!("media/files/{}/content", id(day)), "content").await;
        let mut manifest = Manifest::new(id(day), KIND_FILES, "media", (at(day), at(day)));
        manifest.parent = parent.map(id);
        manifest.objects.push(ManifestObject::new("content", 7, Digest::of(b"content"), ObjectRole::File));
        commit(&*self.store, "media", manifest).await.unwrap()
    }

    async fn proof(&self, backup: &Backup, verdict: Verdict) {
        prove(&*self.store, &backup.place(), &drilled(backup, verdict), None).await.unwrap();
    }

    async fn chosen(&self, query: &Query) -> Result<String, CatalogError> {
        find(self.store.as_read(), "media", query).await.map(|backup| backup.manifest.id)
    }
}

fn proven(proven: Proven) -> Query {
    Query { proven, ..Query::default() }
}

#[tokio::test]
async fn a_proof_is_required_preferred_or_ignored_and_a_failed_one_is_none() {
    let shelf = Shelf::new();
    let (first, last) = (shelf.backup(1, None).await, shelf.backup(2, None).await);
    assert_eq!(shelf.chosen(&proven(Proven::Prefer)).await.unwrap(), id(2), "none is proven, so any is taken");
    let none = shelf.chosen(&proven(Proven::Require)).await.unwrap_err();
    assert!(none.to_string().contains("with a proven restore"), "{none}");
    shelf.proof(&last, Verdict::Failed).await;
    assert!(shelf.chosen(&proven(Proven::Require)).await.is_err(), "a failed proof proves nothing");
    shelf.proof(&first, Verdict::Passed).await;
    for how in [Proven::Require, Proven::Prefer] {
        assert_eq!(shelf.chosen(&proven(how)).await.unwrap(), id(1), "{how:?}");
    }
    assert_eq!(shelf.chosen(&proven(Proven::Ignore)).await.unwrap(), id(2));
}

#[tokio::test]
async fn a_name_or_a_moment_that_no_backup_fits_is_an_error_and_never_an_empty_success() {
    let shelf = Shelf::new();
    shelf.backup(2, None).await;
    let named = |id: &str| Query { id: Some(id.to_owned()), ..Query::default() };
    // Not the beginning of a name either: `20260102` for `2026-01-02`.
    for query in [named("20260102"), named("2026-01"), Query { before: Some(at(1)), ..Query::default() }] {
        let error = shelf.chosen(&query).await.unwrap_err();
        assert!(error.to_string().starts_with("there is no backup"), "{error}");
    }
    assert!(find(shelf.store.as_read(), "med", &Query::default()).await.is_err(), "nor of a prefix");
}

#[tokio::test]
async fn a_random_one_is_the_same_for_one_run_and_another_for_others() {
    let shelf = Shelf::new();
    for day in 1..=8 {
        shelf.backup(day, None).await;
    }
    let random = |seed: u32| Query { pick: Pick::Random { seed: format!("run {seed}") }, ..Query::default() };
    let mut found = BTreeSet::new();
    for seed in 0..32 {
        let chosen = shelf.chosen(&random(seed)).await.unwrap();
        assert_eq!(shelf.chosen(&random(seed)).await.unwrap(), chosen, "the next attempt takes the same one");
        found.insert(chosen);
    }
    assert!(found.len() > 4, "32 runs choose {found:?} of 8");
    let before = Query { before: Some(at(2)), ..random(1) };
    assert_eq!(shelf.chosen(&before).await.unwrap(), id(1), "only of those that fit");
}

#[tokio::test]
async fn a_backup_with_a_missing_object_is_chosen_only_by_its_id() {
    let shelf = Shelf::new();
    shelf.backup(1, None).await;
    shelf.backup(2, None).await;
    std::fs::remove_file(shelf.path("media/files/2026-01-02/content")).unwrap();
    assert_eq!(shelf.chosen(&Query::default()).await.unwrap(), id(1));
    let named = Query { id: Some(id(2)), ..Query::default() };
    assert_eq!(shelf.chosen(&named).await.unwrap(), id(2));
}

#[tokio::test]
async fn an_increment_whose_parent_is_gone_is_not_chosen() {
    let shelf = Shelf::new();
    shelf.backup(1, None).await;
    let parent = shelf.backup(2, None).await;
    shelf.backup(3, Some(2)).await;
    shelf.backup(4, Some(3)).await;
    assert_eq!(shelf.chosen(&Query::default()).await.unwrap(), id(4));
    shelf.store.delete(&parent.place().manifest_key().unwrap()).await.unwrap();
    assert_eq!(shelf.chosen(&Query::default()).await.unwrap(), id(1));
    let all = list(shelf.store.as_read(), "media").await.unwrap();
    let whole: Vec<bool> = all.backups.iter().map(|backup| all.rests_whole(backup)).collect();
    assert_eq!(whole, [true, false, false]);
}

/// Removes what the store knows of an object beside its bytes, as a copy by another program does.
fn forget(folder: &Path, name: &str) {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let own = entry.file_name().to_string_lossy().into_owned();
        if own.starts_with(".rb-") && own.contains(name) {
            std::fs::remove_file(entry.path()).unwrap();
            removed += 1;
        }
    }
    assert_eq!(removed, 1, "what is known of `{name}` in {}", folder.display());
}

#[tokio::test]
async fn a_manifest_that_was_copied_without_its_metadata_counts_when_the_sidecar_vouches_for_it() {
    let shelf = Shelf::new();
    let place = shelf.backup(1, None).await.place();
    let folder = shelf.path(&place.folder());
    forget(&folder, "manifest.json");
    assert_eq!(shelf.chosen(&Query::default()).await.unwrap(), id(1));
    let sums = folder.join("SHA256SUMS");
    let text = std::fs::read_to_string(&sums).unwrap();
    for other in [text.replacen(&text[..1], if text.starts_with('0') { "1" } else { "0" }, 1), String::new()] {
        std::fs::write(&sums, other).unwrap();
        let all = list(shelf.store.as_read(), "media").await.unwrap();
        assert_eq!((all.backups.len(), all.damaged.len()), (0, 1));
        assert!(all.damaged[0].why.contains("does not vouch"), "{:?}", all.damaged);
    }
    std::fs::remove_file(&sums).unwrap();
    let all = list(shelf.store.as_read(), "media").await.unwrap();
    assert!(all.damaged[0].why.contains("no `SHA256SUMS`"), "{:?}", all.damaged);
}

#[tokio::test]
async fn a_backup_whose_manifest_cannot_be_read_is_not_passed_over_without_a_word() {
    let shelf = Shelf::new();
    shelf.backup(1, None).await;
    shelf.backup(2, None).await;
    let torn = "media/files/2026-01-02/manifest.json";
    std::fs::write(shelf.path(torn), "{").unwrap();
    std::fs::create_dir_all(shelf.path("media/dump/other")).unwrap();
    std::fs::write(shelf.path("media/dump/other/manifest.json"), "{").unwrap();
    let told = async |query: &Query| {
        let all = list(shelf.store.as_read(), "media").await.unwrap();
        find_among(all, "media", query).unwrap()
    };
    let files = Query { kind: Some(KIND_FILES.to_owned()), ..Query::default() };
    let (chosen, passed_over) = told(&files).await;
    assert_eq!((chosen.manifest.id, passed_over), (id(1), vec![torn.to_owned()]));
    assert_eq!(told(&Query::default()).await.1.len(), 2, "of any kind may be both");
    let named = Query { id: Some(id(1)), ..Query::default() };
    assert!(told(&named).await.1.is_empty());
}

#[tokio::test]
async fn a_folder_that_a_backup_of_another_prefix_consists_of_is_no_orphan() {
    let shelf = Shelf::new();
    shelf.backup(1, None).await;
    shelf.put("media/dump/half/content", "content").await;
    shelf.put("media/dump/used/content", "content").await;
    let mut manifest = Manifest::new("imported", KIND_FILES, "other", (at(1), at(1)));
    let object = ManifestObject::new("content", 7, Digest::of(b"content"), ObjectRole::File);
    let key = Some("media/dump/used/content".to_owned());
    manifest.objects.push(ManifestObject { key, ..object });
    commit(&*shelf.store, "elsewhere", manifest).await.unwrap();
    let found = runbook::catalog::survey::holdings(shelf.store.as_read(), "media").await.unwrap();
    let folders: Vec<&str> = found.orphans.iter().map(|orphan| orphan.folder.as_str()).collect();
    assert_eq!(folders, ["media/dump/half/"]);
    assert!(found.spared[0].contains("`imported`"), "{:?}", found.spared);
    shelf.put("elsewhere/files/torn/manifest.json", "{").await;
    let found = runbook::catalog::survey::holdings(shelf.store.as_read(), "media").await.unwrap();
    assert_eq!((found.orphans.len(), found.spared.len()), (0, 2), "{:?}", found.spared);
}

#[test]
fn a_backup_far_from_the_size_of_its_like_does_not_hold() {
    let cli = Cli::new();
    let inventory = format!("version: 1\nstores: {{ near: {{ url: 'file://{}' }} }}\n", cli.path("near").display());
    cli.file("inventory.yaml", &inventory);
    let letter = cli.path("letter");
    let step = |with: &str| format!("version: 1\nname: one\nsteps:\n  - {{ id: one, {with} }}\n");
    let keep =
        format!("uses: backup.create, with: {{ source: letters, stores: [near], paths: [{}] }}", letter.display());
    cli.file("keep.yaml", &step(&keep));
    let verify = |percent: u32| {
        cli.file(
            "verify.yaml",
            &step(&format!("uses: backup.verify, with: {{ source: letters, store: near, within_percent: {percent} }}")),
        );
        cli.run(&["run", "verify.yaml"])
    };
    for size in [1000, 1000, 1000, 200] {
        // Random enough not to be compressed.
        let bytes: Vec<u8> = (0_u32..size).flat_map(|n| Digest::of(&n.to_le_bytes()).as_bytes().to_vec()).collect();
        std::fs::write(&letter, bytes).unwrap();
        cli.run(&["run", "keep.yaml"]).ends(0);
    }
    verify(50).ends(10).says("away from the median");
    verify(90).ends(0);
}

#[tokio::test]
async fn where_signers_are_named_a_proof_counts_only_when_one_of_them_has_signed_it() {
    use runbook::catalog::attest::Vouched;
    use runbook::journal::SignKey;
    let shelf = Shelf::new();
    let key = |name: &str| {
        let key = ssh_key::PrivateKey::random(&mut ssh_key::rand_core::OsRng, ssh_key::Algorithm::Ed25519).unwrap();
        let path = shelf.folder.path().join(name);
        std::fs::write(&path, key.to_openssh(ssh_key::LineEnding::LF).unwrap().as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        (SignKey::open(&path).unwrap(), format!("{name} {}", key.public_key().to_openssh().unwrap()))
    };
    let ((ours, trusted), (theirs, _)) = (key("ops"), key("stranger"));
    for (day, signer) in [(1, Some(&ours)), (2, Some(&theirs)), (3, None)] {
        let backup = shelf.backup(day, None).await;
        let proof = drilled(&backup, Verdict::Passed);
        let signature = signer.map(|key| key.sign(&proof.text()).unwrap());
        prove(&*shelf.store, &backup.place(), &proof, signature.as_deref()).await.unwrap();
    }
    let chosen = async |signers: &[String]| {
        let vouched = Vouched::of(shelf.store.as_read(), signers).unwrap();
        find(&vouched, "media", &proven(Proven::Require)).await.map(|backup| backup.manifest.id)
    };
    assert_eq!(chosen(&[]).await.unwrap(), id(3), "without signers every proof counts");
    assert_eq!(chosen(std::slice::from_ref(&trusted)).await.unwrap(), id(1));
    for nobody in ["# nobody", "", &trusted.replacen(' ', " namespaces=\"file\" ", 1)] {
        assert!(chosen(&[nobody.to_owned()]).await.is_err(), "`{nobody}` trusts nobody, so no proof counts");
    }
    // The proof itself was changed after it was signed.
    let folder = shelf.path("media/files/2026-01-01/proofs");
    let proof = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
    let mut proof = proof.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    let proof = proof.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("2026")).unwrap();
    let text = std::fs::read_to_string(&proof).unwrap();
    std::fs::write(&proof, text.replace("\"took_ms\": 1", "\"took_ms\": 2")).unwrap();
    assert!(chosen(&[trusted]).await.is_err());
    assert!(Vouched::of(shelf.store.as_read(), &["ops".to_owned()]).is_err());
}

#[test]
fn signers_that_trust_nobody_are_refused_by_check() {
    let cli = Cli::new();
    for lines in ["'# nobody'", "''", "'ops namespaces=\"file,git\" ssh-ed25519 AAAA'"] {
        cli.file("inventory.yaml", &format!("version: 1\naudit: {{ proof_signers: [ {lines} ] }}\n"));
        cli.run(&["check", "inventory.yaml"]).ends(3).says("trust nobody for `runbook`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_database_tells_only_proofs_that_count() {
    let shelf = Shelf::new();
    shelf.put("main/dump/one/content", "content").await;
    let mut manifest = Manifest::new("one", KIND_POSTGRES_DUMP, "main", (at(1), at(1)));
    manifest.objects.push(ManifestObject::new("content", 7, Digest::of(b"content"), ObjectRole::Dump));
    let backup = commit(&*shelf.store, "main", manifest).await.unwrap();
    shelf.proof(&backup, Verdict::Passed).await;
    let key = ssh_key::PrivateKey::random(&mut ssh_key::rand_core::OsRng, ssh_key::Algorithm::Ed25519).unwrap();
    let signer = format!("ops {}", key.public_key().to_openssh().unwrap());
    let cli = Cli::new();
    let proof = |audit: &str| {
        let database = "address: localhost, port: 1, sslmode: disable, via: { managed: {} }, store: near, prefix: main";
        let url = format!("file://{}", shelf.path("").display());
        cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases: {{ main: {{ {database} }} }}\nstores: {{ near: {{ url: '{url}' }} }}\n{audit}\n"
            ),
        );
        let told = cli.run(&["status", "main", "--json"]);
        serde_json::from_str::<serde_json::Value>(&told.out).unwrap_or_else(|_| panic!("{told:?}"))[0]["proof"].clone()
    };
    assert_eq!(proof("")["backup"], "one");
    assert!(proof(&format!("audit: {{ proof_signers: [ '{signer}' ] }}")).is_null());
}
