//! Mount points of one's own: the test runs once more in a mount namespace, which takes them away with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::postgres::unprivileged;

const INSIDE: &str = "RUNBOOK_TEST_MOUNTS";

/// Whether this process may mount; else the test named `test` runs once more where it may, and must succeed there.
pub fn mine(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if unprivileged().is_none() {
        command.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().expect("`unshare` is missing: install util-linux");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// A mount point, until it is dropped.
pub struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _gone_with_the_namespace_otherwise = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Makes a folder a mount point of its own content, on the same device.
pub fn bind(folder: &Path) -> Mount {
    mount(Command::new("mount").arg("--bind").args([folder, folder]), folder)
}

/// Shows one folder at the place of another.
pub fn bind_of(folder: &Path, place: &Path) -> Mount {
    mount(Command::new("mount").arg("--bind").args([folder, place]), place)
}

/// Mounts a file that holds a file system.
pub fn image(image: &Path, place: &Path) -> Mount {
    mount(Command::new("mount").args(["-o", "loop"]).args([image, place]), place)
}

/// Makes a folder an empty mount point on a device of its own.
pub fn memory(folder: &Path) -> Mount {
    sized(folder, "256m")
}

/// The same of a size.
pub fn sized(folder: &Path, size: &str) -> Mount {
    let options = format!("size={size}");
    mount(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder), folder)
}

fn mount(command: &mut Command, folder: &Path) -> Mount {
    let output = command.output().expect("`mount` is missing: install util-linux");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Mount(folder.to_owned())
}
