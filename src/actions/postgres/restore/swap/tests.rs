#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::allow_attributes, reason = "tests")]
use super::There::{No, Yes};
use super::*;

fn seen(live: There, kept: There, staged: There) -> Seen {
    Seen { live, kept, staged }
}

#[test]
fn a_swap_passes_through_aside_and_in_to_done() {
    assert_eq!(next(seen(Yes, No, Yes)), Ok(Move::Aside));
    assert_eq!(next(seen(No, Yes, Yes)), Ok(Move::In));
    assert_eq!(next(seen(Yes, Yes, No)), Ok(Move::Done));
}

#[test]
fn a_destroyed_data_directory_needs_no_move_aside() {
    assert_eq!(next(seen(No, No, Yes)), Ok(Move::In));
    assert_eq!(next(seen(Yes, No, No)), Ok(Move::Done));
}

#[test]
fn a_folder_that_appeared_meanwhile_is_never_overwritten() {
    assert_eq!(next(seen(Yes, Yes, Yes)), Err(SwapError::Intruder));
}

#[test]
fn nothing_to_put_in_is_said_and_not_done() {
    assert_eq!(next(seen(No, Yes, No)), Err(SwapError::Lost));
    assert_eq!(next(seen(No, No, No)), Err(SwapError::Lost));
}

#[test]
fn every_state_after_a_move_leads_on_and_none_back() {
    for kept in [No, Yes] {
        let mut state = seen(if kept == No { Yes } else { No }, kept, Yes);
        let mut moves = Vec::new();
        loop {
            let step = next(state).unwrap();
            moves.push(step);
            match step {
                Move::Aside => state = seen(No, Yes, state.staged),
                Move::In => state = seen(Yes, state.kept, No),
                Move::Done => break,
            }
        }
        assert_eq!(moves.last(), Some(&Move::Done));
        assert!(moves.len() <= 3);
    }
}

/// Files that refuse every change after so many.
struct Cut {
    inner: std::sync::Arc<dyn Files>,
    left: std::sync::atomic::AtomicI64,
}

impl Cut {
    fn change(&self, path: &Path) -> Result<(), HostError> {
        if self.left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 0 {
            return Ok(());
        }
        let source = std::io::Error::other("the machine died");
        Err(HostError::File { operation: "change", path: path.to_owned(), source })
    }
}

impl crate::action::ReadFiles for Cut {
    fn facts(&self, path: &Path) -> Result<Option<crate::action::FileFacts>, HostError> {
        self.inner.facts(path)
    }
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, HostError> {
        self.inner.read(path, limit)
    }
    fn open(&self, path: &Path) -> Result<std::fs::File, HostError> {
        self.inner.open(path)
    }
    fn list(&self, path: &Path) -> Result<Vec<crate::action::DirEntry>, HostError> {
        self.inner.list(path)
    }
    fn read_link(&self, path: &Path) -> Result<PathBuf, HostError> {
        self.inner.read_link(path)
    }
    fn canonical(&self, path: &Path) -> Result<PathBuf, HostError> {
        self.inner.canonical(path)
    }
    fn space(&self, path: &Path) -> Result<crate::action::Space, HostError> {
        self.inner.space(path)
    }
}

impl Files for Cut {
    fn create_dir(&self, path: &Path, mode: u32) -> Result<(), HostError> {
        self.change(path).and_then(|()| self.inner.create_dir(path, mode))
    }
    fn create(&self, path: &Path, mode: u32) -> Result<std::fs::File, HostError> {
        self.change(path).and_then(|()| self.inner.create(path, mode))
    }
    fn append(&self, path: &Path) -> Result<std::fs::File, HostError> {
        self.change(path).and_then(|()| self.inner.append(path))
    }
    fn replace(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), HostError> {
        self.change(path).and_then(|()| self.inner.replace(path, content, mode))
    }
    fn replace_for(&self, path: &Path, content: &[u8], mode: u32, owner: (u32, u32)) -> Result<(), HostError> {
        self.change(path).and_then(|()| self.inner.replace_for(path, content, mode, owner))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), HostError> {
        self.change(from).and_then(|()| self.inner.rename(from, to))
    }
    fn symlink(&self, target: &Path, link: &Path) -> Result<(), HostError> {
        self.change(link).and_then(|()| self.inner.symlink(target, link))
    }
    fn remove_file(&self, path: &Path) -> Result<(), HostError> {
        self.change(path).and_then(|()| self.inner.remove_file(path))
    }
    fn remove_tree(&self, path: &Path) -> Result<(), HostError> {
        self.change(path).and_then(|()| self.inner.remove_tree(path))
    }
    fn chmod(&self, path: &Path, mode: u32) -> Result<(), HostError> {
        self.inner.chmod(path, mode)
    }
    fn chown(&self, path: &Path, uid: u32, gid: u32) -> Result<(), HostError> {
        self.inner.chown(path, uid, gid)
    }
    fn sync(&self, path: &Path) -> Result<(), HostError> {
        self.inner.sync(path)
    }
}

fn fill(folder: &Path, names: &[&str]) {
    for name in names {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("{name} of {}", folder.file_name().unwrap().display())).unwrap();
    }
}

#[tokio::test]
async fn a_swap_within_a_mount_point_goes_on_wherever_it_was_cut_off_and_never_leaves_a_startable_mixture() {
    let run: RunId = "20260128-143002-3fa9c1".parse().unwrap();
    let mut whole = false;
    for cut in 0.. {
        let home = tempfile::tempdir().unwrap();
        let live = home.path().join("main");
        let (kept, staged) = (Placement::Inside.kept(&live, &run), Placement::Inside.staged(&live, &run));
        fill(&live, &[VERSION, "base/1/1", "old", "lost+found/x"]);
        fill(&staged, &[VERSION, "base/1/1", "new", "runbook-restore.json", "recovery.signal"]);
        let files = crate::host::local_files();
        let owner = owner_of(&live, files.as_ref());
        let seat = || Seat {
            live: live.clone(),
            kept: kept.clone(),
            staged: Some(staged.clone()),
            placement: Placement::Inside,
        };
        let swap = || Swap { data: seat(), linked: Vec::new(), made: Vec::new(), owner: owner.clone() };
        let cutting = Cut { inner: std::sync::Arc::clone(&files), left: cut.into() };
        whole = swap().run(&cutting).is_ok();
        if live.join(VERSION).exists() {
            let (old, new) = (live.join("old").exists(), live.join("new").exists());
            assert!(old != new && live.join("base/1/1").exists(), "{cut}: {old} {new}");
        }
        // What a resumed recovery does first, and then.
        seat().settle(files.as_ref(), &owner).unwrap();
        if staged.exists() {
            swap().run(files.as_ref()).unwrap();
        }
        let text = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        assert!(text(live.join("base/1/1")).contains("staged") && live.join("runbook-restore.json").exists(), "{cut}");
        assert!(live.join("new").exists() && !live.join("old").exists() && live.join("lost+found/x").exists());
        assert!(text(kept.join("base/1/1")).ends_with("main") && kept.join(VERSION).exists() && !staged.exists());
        if whole {
            break;
        }
    }
    assert!(whole);
}

fn owner_of(path: &Path, files: &dyn Files) -> Owner {
    let facts = files.facts(path).unwrap().unwrap();
    Owner { become_user: None, uid: facts.uid, gid: facts.gid }
}
