//! `archive.*` against GNU tar in both directions, and against hostile archives.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use runbook::action::{ActionError, Interrupted, Recovery, Store};
use runbook::base::{Attempt, clock};
use runbook::language::inventory::{Inventory, StoreEntry};
use runbook::store::Opening;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use xattr::FileExt as _;

use crate::support::host::{Bench, action};

async fn run(bench: &Bench, name: &str, with: Value) -> Result<Value, ActionError> {
    let mut cx = bench.run_context(Inventory::default());
    let entry = StoreEntry { url: format!("file://{}", bench.path("store").display()), ..StoreEntry::default() };
    cx.stores = Arc::new(move |name| -> Result<Arc<dyn Store>, ActionError> {
        Ok(Opening::plain(&entry, name).open().unwrap())
    });
    action(name).run(&with, &cx).await
}

fn tar(args: &[&str], folder: &Path) -> String {
    let output = Command::new("tar").args(args).current_dir(folder).output().expect("tar: install GNU tar");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A tree with everything that an archive must keep.
fn populate(root: &Path) {
    for folder in ["empty", "sub/deep", "closed"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("a"), "content").unwrap();
    fs::write(root.join("none"), "").unwrap();
    fs::write(root.join("sub/ü b\\c"), "odd name").unwrap();
    fs::write(root.join(format!("sub/deep/{}", "n".repeat(180))), "long name").unwrap();
    fs::write(root.join("closed/x"), "x").unwrap();
    fs::hard_link(root.join("a"), root.join("sub/second name of a")).unwrap();
    symlink("a", root.join("link")).unwrap();
    symlink("../none", root.join("sub/up")).unwrap();
    symlink(format!("deep/{}", "n".repeat(180)), root.join("sub/far")).unwrap();
    let mut sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.write_all(b"begin").unwrap();
    sparse.set_len(64 << 20).unwrap();
    let file = fs::File::open(root.join("a")).unwrap();
    file.set_xattr("user.note", b"kept").unwrap();
    file.set_xattr("user.lines", b"one\ntwo\n\0").unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789)).unwrap();
    fs::set_permissions(root.join("none"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o2550)).unwrap();
    for folder in ["empty", "sub", "sub/deep", "closed"] {
        let opened = fs::File::open(root.join(folder)).unwrap();
        opened.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_100_000_000)).unwrap();
    }
}

/// What is told of every name: kind, mode, owner, links, time, size, content or target, and user attributes.
fn told(root: &Path, exact: bool) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let mut content = String::new();
            if meta.is_symlink() {
                content = fs::read_link(&path).unwrap().display().to_string();
            } else if meta.is_file() {
                content = runbook::base::Digest::of(&fs::read(&path).unwrap()).to_string();
                let file = fs::File::open(&path).unwrap();
                let mut names: Vec<_> = file.list_xattr().unwrap().collect();
                names.sort();
                for name in names.into_iter().filter(|name| name.to_string_lossy().starts_with("user.")) {
                    let value = file.get_xattr(&name).unwrap();
                    if exact || value.as_ref().is_some_and(|value| !value.contains(&b'\n')) {
                        content.push_str(&format!(" {name:?}={value:?}"));
                    }
                }
            } else {
                folders.push(path.clone());
            }
            let links = if meta.is_file() { meta.nlink() } else { 0 };
            let nanos = if exact && !meta.is_symlink() { meta.mtime_nsec() } else { 0 };
            let size = if meta.is_dir() { 0 } else { meta.len() };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
            found.insert(name, format!("{mode:o} {uid}:{gid} {links} {}.{nanos} {size} {content}", meta.mtime()));
        }
    }
    found
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Bits that lend rights come back only where owners do.
fn expected(root: &Path, exact: bool) -> BTreeMap<String, String> {
    let mut told = told(root, exact);
    if !is_root() {
        for text in told.values_mut() {
            *text = text.replace("104711 ", "100711 ").replace("42550 ", "40550 ");
        }
    }
    told
}

fn unlock(root: &Path) {
    let _ = fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o750));
}

#[tokio::test]
async fn a_tree_comes_back_as_it_was_through_a_file_or_a_store() {
    let bench = Bench::new();
    let (root, back) = (bench.path("root"), bench.path("back"));
    populate(&root);
    let index = bench.path("index.json");
    let with = json!({ "from": root, "to": { "path": bench.path("a.tar") }, "compression": "none", "index": index });
    let made = run(&bench, "archive.create", with.clone()).await.unwrap();
    assert_eq!((&made["files"], &made["folders"], &made["links"]), (&json!(7), &json!(4), &json!(4)));
    assert!(made["size_bytes"].as_u64().unwrap() < 1 << 20, "holes are not stored: {made}");
    assert_eq!(run(&bench, "archive.create", with).await.unwrap()["sha256"], made["sha256"], "the same bytes twice");
    let with = json!({ "from": { "path": bench.path("a.tar") }, "to": back, "index": index, "sha256": made["sha256"] });
    let out = run(&bench, "archive.extract", with.clone()).await.unwrap();
    assert_eq!((&out["files"], &out["attributes_left"]), (&json!(7), &json!(0)));
    assert_eq!(told(&back, true), expected(&root, true));
    let (one, two) = (fs::metadata(back.join("a")).unwrap(), fs::metadata(back.join("sub/second name of a")).unwrap());
    assert_eq!(one.ino(), two.ino(), "one file with two names");
    assert!(fs::metadata(back.join("sparse")).unwrap().blocks() < 1000, "the hole is a hole");
    assert!(run(&bench, "archive.extract", with).await.is_err(), "never over another folder");
    let with = json!({ "from": root, "to": { "store": "primary", "key": "t/a.tar" }, "compression": "none" });
    assert_eq!(run(&bench, "archive.create", with).await.unwrap()["sha256"], made["sha256"]);
    let with = json!({ "from": { "store": "primary", "key": "t/a.tar" }, "to": bench.path("again") });
    run(&bench, "archive.extract", with).await.unwrap();
    assert_eq!(told(&bench.path("again"), true), expected(&root, true));
    for folder in ["root", "back", "again"] {
        unlock(&bench.path(folder));
    }
}

#[tokio::test]
async fn gnu_tar_reads_what_is_written_here() {
    let bench = Bench::new();
    let (root, back) = (bench.path("root"), bench.path("back"));
    populate(&root);
    let with = json!({ "from": root, "to": { "path": bench.path("a.tar") }, "compression": "none" });
    run(&bench, "archive.create", with).await.unwrap();
    fs::create_dir(&back).unwrap();
    let out = ["-xpf", "../a.tar", "--xattrs", "--xattrs-include=user.*", "--numeric-owner"];
    tar(&out, &back);
    let mut wanted = told(&root, false);
    let got = told(&back, false);
    if !is_root() {
        wanted = expected(&root, false);
    }
    assert_eq!(got.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    assert_eq!(got, wanted);
    tar(&["--compare", "-f", "../a.tar", "--numeric-owner"], &root);
    unlock(&root);
    unlock(&back);
}

#[tokio::test]
async fn what_gnu_tar_writes_is_read_here_in_every_format_and_compression() {
    let bench = Bench::new();
    let root = bench.path("root");
    populate(&root);
    fs::File::open(root.join("a")).unwrap().remove_xattr("user.lines").unwrap();
    let all = ["gnu", "posix"].into_iter().flat_map(|format| ["", "--gzip", "--zstd"].map(|how| (format, how)));
    for (at, (format, how)) in all.enumerate() {
        // No name tells the compression: only the content does.
        let file = bench.path(&format!("{at}.archive"));
        let format = format!("--format={format}");
        let mut args = vec!["-cf", file.to_str().unwrap(), format.as_str(), "--xattrs", "--numeric-owner"];
        args.extend((!how.is_empty()).then_some(how));
        args.push(".");
        tar(&args, &root);
        let back = bench.path(&format!("back{at}"));
        let with = json!({ "from": { "path": file }, "to": back });
        run(&bench, "archive.extract", with).await.unwrap_or_else(|error| panic!("{format} {how}: {error}"));
        let (got, wanted) = (told(&back, false), expected(&root, false));
        assert_eq!(got, wanted, "{format} {how}");
        unlock(&back);
        let listed = run(&bench, "archive.list", json!({ "from": { "path": file } })).await.unwrap();
        let names = tar(&["-tf", file.to_str().unwrap()], &root).lines().count() as u64;
        assert_eq!(listed["count"], json!(names), "{format} {how}");
    }
    let holes = |format: &str| {
        let file = bench.path("holes.tar");
        tar(&["-cf", file.to_str().unwrap(), format, "--sparse", "sparse"], &root);
        run(&bench, "archive.extract", json!({ "from": { "path": file }, "to": bench.path(format) }))
    };
    holes("--format=gnu").await.unwrap();
    let back = fs::metadata(bench.path("--format=gnu/sparse")).unwrap();
    assert_eq!((back.len(), back.blocks() < 1000), (64 << 20, true), "the hole is a hole");
    assert!(holes("--format=posix").await.unwrap_err().to_string().contains("the PAX way"));
    unlock(&root);
}

/// An archive of entries that no honest tar writes.
fn hostile(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, link) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let content: &[u8] = if *kind == EntryType::Regular { b"evil" } else { b"" };
        header.set_size(content.len() as u64);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn nothing_is_ever_written_outside_the_folder() {
    use EntryType::{Block, Directory, Fifo, Link, Regular, Symlink};
    let bench = Bench::new();
    let victim = bench.path("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "mine").unwrap();
    let there = victim.display().to_string();
    for (why, entries) in [
        ("a name that goes up", vec![(Regular, "../victim/new", "")]),
        ("an absolute name", vec![(Regular, there.as_str(), "")]),
        ("a name that goes up within", vec![(Regular, "a/../../victim/new", "")]),
        ("a link out", vec![(Symlink, "l", there.as_str())]),
        ("a link up", vec![(Symlink, "a/l", "../../victim")]),
        ("a hard link out", vec![(Link, "l", "../victim/file")]),
        ("a hard link to nothing", vec![(Link, "l", "none")]),
        ("a device", vec![(Block, "d", "")]),
        ("a pipe", vec![(Fifo, "p", "")]),
        ("a name below a file", vec![(Regular, "f", ""), (Regular, "f/x", "")]),
        ("a folder in the place of a file", vec![(Directory, "f/", ""), (Regular, "f", "")]),
    ] {
        fs::write(bench.path("evil.tar"), hostile(&entries)).unwrap();
        let with = json!({ "from": { "path": bench.path("evil.tar") }, "to": bench.path("out") });
        let error = run(&bench, "archive.extract", with).await.expect_err(why);
        assert!(error.to_string().contains("refused"), "{why}: {error}");
        assert!(!bench.path("out").exists() && !bench.path(".out.runbook-staged").exists(), "{why}");
    }
    // Kept where it is said, and yet never followed.
    let entries = [(Symlink, "l", there.as_str()), (Regular, "l/new", "")];
    fs::write(bench.path("evil.tar"), hostile(&entries)).unwrap();
    let with = json!({ "from": { "path": bench.path("evil.tar") }, "to": bench.path("out"), "links": "any" });
    assert!(run(&bench, "archive.extract", with).await.is_err());
    let entries = [(Symlink, "l", there.as_str()), (Regular, "l", "")];
    fs::write(bench.path("evil.tar"), hostile(&entries)).unwrap();
    let with = json!({ "from": { "path": bench.path("evil.tar") }, "to": bench.path("out"), "links": "any" });
    run(&bench, "archive.extract", with).await.unwrap();
    assert_eq!(fs::read_to_string(bench.path("out/l")).unwrap(), "evil", "a later entry takes the link's place");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "mine");
}

#[tokio::test]
async fn a_damaged_or_cut_archive_never_becomes_a_folder() {
    let bench = Bench::new();
    let root = bench.path("root");
    fs::create_dir(&root).unwrap();
    for at in 0..20 {
        fs::write(root.join(format!("f{at:02}")), format!("{at}").repeat(3000)).unwrap();
    }
    let index = bench.path("index.json");
    let file = bench.path("a.tar");
    let with = json!({ "from": root, "to": { "path": file }, "compression": "none", "index": index });
    let made = run(&bench, "archive.create", with).await.unwrap();
    let whole = fs::read(&file).unwrap();
    let extract = async |more: Value| {
        let mut with = json!({ "from": { "path": file }, "to": bench.path("out") });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        run(&bench, "archive.extract", with).await
    };
    for cut in [0, 1, 511, 512, 700, whole.len() / 2, whole.len() / 2 / 512 * 512, whole.len() - 1024] {
        fs::write(&file, &whole[..cut]).unwrap();
        assert!(extract(json!({})).await.is_err(), "cut at {cut}");
        assert!(!bench.path("out").exists() && !bench.path(".out.runbook-staged").exists(), "cut at {cut}");
    }
    let mut flipped = whole.clone();
    // The content of the first file: before it come its records and its header.
    flipped[1600] ^= 1;
    fs::write(&file, &flipped).unwrap();
    for proof in [json!({ "sha256": made["sha256"] }), json!({ "index": index })] {
        assert!(extract(proof).await.is_err(), "a flipped bit");
        assert!(!bench.path("out").exists());
    }
    fs::write(&file, &whole).unwrap();
    extract(json!({ "index": index, "sha256": made["sha256"] })).await.unwrap();
}

#[tokio::test]
async fn a_file_that_changes_or_has_no_content_is_an_error_of_that_file() {
    let bench = Bench::new();
    let root = bench.path("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "a").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let with = |special: &str| json!({ "from": root, "to": { "path": bench.path("a.tar") }, "compression": "none", "special": special });
    let error = run(&bench, "archive.create", with("refuse")).await.unwrap_err();
    assert!(error.to_string().contains("socket") && !bench.path("a.tar").exists(), "{error}");
    assert_eq!(run(&bench, "archive.create", with("skip")).await.unwrap()["skipped"], json!(1));
    let missing = json!({ "from": bench.path("none"), "to": { "path": bench.path("b.tar") }, "compression": "none" });
    assert!(run(&bench, "archive.create", missing).await.is_err());
    assert!(!bench.path("b.tar").exists() && !bench.path(".b.tar.runbook-part").exists());
}

#[tokio::test]
async fn an_extraction_cut_off_after_its_rename_is_known_to_have_happened() {
    let bench = Bench::new();
    let root = bench.path("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "a").unwrap();
    let with = json!({ "from": root, "to": { "path": bench.path("a.tar") }, "compression": "none" });
    run(&bench, "archive.create", with).await.unwrap();
    let with = json!({ "from": { "path": bench.path("a.tar") }, "to": bench.path("out") });
    let cx = bench.run_context(Inventory::default());
    let cut = Interrupted {
        step: cx.step.clone(),
        attempt: Attempt(1),
        key: cx.key.clone(),
        started_at: clock::now(),
        attempt_dir: cx.attempt_dir.clone(),
    };
    let recover = async || {
        action("archive.extract").recover(&with, &cut, &bench.check_context(Inventory::default())).await.unwrap()
    };
    assert_eq!(recover().await, Recovery::Rerun);
    let output = action("archive.extract").run(&with, &cx).await.unwrap();
    assert_eq!(recover().await, Recovery::Adopt(output));
    fs::remove_file(cx.attempt_dir.join("extracted.json")).unwrap();
    assert!(matches!(recover().await, Recovery::Ask { .. }));
}

#[tokio::test]
async fn every_compression_comes_back_however_many_frames_it_has() {
    let bench = Bench::new();
    let root = bench.path("root");
    fs::create_dir(&root).unwrap();
    let bytes = crate::support::place::noise(9, (9 << 20) + 7);
    fs::write(root.join("large"), &bytes).unwrap();
    for format in ["none", "zstd", "gzip", "lz4"] {
        let (file, back) = (bench.path(&format!("a.{format}")), bench.path(&format!("back-{format}")));
        let with = json!({ "from": root, "to": { "path": file }, "compression": format });
        run(&bench, "archive.create", with).await.unwrap();
        let with = json!({ "from": { "path": file }, "to": back });
        run(&bench, "archive.extract", with).await.unwrap_or_else(|error| panic!("{format}: {error}"));
        assert!(fs::read(back.join("large")).unwrap() == bytes, "{format}");
    }
}

#[tokio::test]
async fn rights_in_attributes_are_left_out_where_owners_are() {
    let bench = Bench::new();
    let mut builder = Builder::new(Vec::new());
    // A file capability: whoever runs the file has it, whoever its owner is.
    let capability: &[u8] = &[1, 0, 0, 2, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records = [("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.note", b"kept".as_slice())];
    builder.append_pax_extensions(records).unwrap();
    let mut header = Header::new_gnu();
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(4);
    header.set_cksum();
    builder.append_data(&mut header, "tool", b"tool".as_slice()).unwrap();
    fs::write(bench.path("a.tar"), builder.into_inner().unwrap()).unwrap();
    let with = json!({ "from": { "path": bench.path("a.tar") }, "to": bench.path("back"), "ownership": "own" });
    let out = run(&bench, "archive.extract", with).await.unwrap();
    assert_eq!(out["attributes_left"], json!(1));
    let tool = fs::File::open(bench.path("back/tool")).unwrap();
    assert_eq!(tool.get_xattr("user.note").unwrap().as_deref(), Some(b"kept".as_slice()));
    assert_eq!(tool.get_xattr("security.capability").unwrap(), None);
}
