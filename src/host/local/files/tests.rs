use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use super::LocalFiles;
use crate::action::{FileKind, Files as _, ReadFiles as _};

#[test]
fn a_replaced_file_has_the_new_content_and_mode_and_leaves_nothing_beside_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("conf");
    LocalFiles.replace(&path, b"one", 0o600).expect("written");
    LocalFiles.replace(&path, b"two", 0o644).expect("written");
    assert_eq!(LocalFiles.read(&path, 10).expect("read"), b"two");
    assert_eq!(LocalFiles.facts(&path).expect("facts").expect("there").mode, 0o644);
    assert_eq!(LocalFiles.list(dir.path()).expect("a list").len(), 1);
    assert!(LocalFiles.read(&path, 2).is_err(), "more than the limit is refused");
}

#[test]
fn what_is_replaced_for_a_user_is_theirs_under_its_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("conf");
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let theirs = if own.0 == 0 { (4711, 4712) } else { own };
    LocalFiles.replace(&path, b"one", 0o600).expect("written");
    LocalFiles.replace_for(&path, b"two", 0o640, theirs).expect("written");
    let facts = LocalFiles.facts(&path).expect("facts").expect("there");
    assert_eq!((facts.uid, facts.gid, facts.mode), (theirs.0, theirs.1, 0o640));
    assert_eq!(LocalFiles.read(&path, 10).expect("read"), b"two");
    // Who may not give it away leaves what was there, and nothing beside it.
    if own.0 != 0 {
        LocalFiles.replace_for(&path, b"three", 0o600, (0, 0)).expect_err("another's");
        assert_eq!(LocalFiles.read(&path, 10).expect("read"), b"two");
        assert_eq!(LocalFiles.list(dir.path()).expect("a list").len(), 1);
    }
}

#[test]
fn removing_a_tree_never_follows_a_link() {
    let dir = tempfile::tempdir().expect("a folder");
    let (kept, tree) = (dir.path().join("kept"), dir.path().join("tree"));
    LocalFiles.create_dir(&kept, 0o700).expect("a folder");
    LocalFiles.replace(&kept.join("data"), b"data", 0o600).expect("written");
    LocalFiles.create_dir(&tree.join("sub"), 0o700).expect("a folder");
    symlink(&kept, tree.join("sub/link")).expect("a link");
    LocalFiles.remove_tree(&tree).expect("removed");
    assert!(LocalFiles.facts(&tree).expect("facts").is_none());
    assert!(kept.join("data").exists());
    let link = dir.path().join("link");
    symlink(&kept, &link).expect("a link");
    let _ = LocalFiles.remove_tree(&link);
    assert!(kept.join("data").exists(), "what a link points to stays");
}

#[test]
fn a_path_that_does_not_exist_yet_is_resolved_through_the_links_above_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let real = dir.path().canonicalize().expect("a path").join("real");
    LocalFiles.create_dir(&real, 0o700).expect("a folder");
    symlink(&real, dir.path().join("link")).expect("a link");
    let found = LocalFiles.canonical(&dir.path().join("link/a/b")).expect("a path");
    assert_eq!(found, real.join("a/b"));
    assert!(LocalFiles.canonical(&dir.path().join("link/a/../b")).is_err());
    symlink(dir.path().join("nowhere"), dir.path().join("dangling")).expect("a link");
    assert!(LocalFiles.canonical(&dir.path().join("dangling/x")).is_err(), "a dangling link may come to mean anything");
}

#[test]
fn facts_and_changes_never_follow_a_link() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    LocalFiles.replace(&file, b"x", 0o600).expect("written");
    LocalFiles.symlink(&file, &link).expect("a link");
    assert_eq!(LocalFiles.facts(&link).expect("facts").expect("there").kind, FileKind::Symlink);
    assert!(LocalFiles.chmod(&link, 0o777).is_err());
    assert!(LocalFiles.append(&link).is_err());
    let own = file.metadata().expect("facts");
    LocalFiles.chown(&link, own.uid(), own.gid()).expect("the owner of the link itself");
    assert!(LocalFiles.create(&link, 0o600).is_err(), "what exists is never created");
}

#[test]
fn the_space_of_a_path_is_that_of_its_nearest_existing_parent() {
    let here = LocalFiles.space(Path::new("/")).expect("space");
    let there = LocalFiles.space(Path::new("/no/such/folder")).expect("space");
    assert_eq!(here.total_bytes, there.total_bytes);
    assert!(here.free_bytes <= here.total_bytes && here.total_bytes > 0);
}
