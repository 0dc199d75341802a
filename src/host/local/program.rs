//! The search path.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Finds an executable: a name in the folders of `search_path`, a path where it says.
pub(super) fn find_program(name: &str, search_path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_executable(path));
    }
    search_path
        .split(':')
        .filter(|dir| dir.starts_with('/') && !name.is_empty())
        .map(|dir| Path::new(dir).join(name))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::find_program;

    #[test]
    fn a_name_is_looked_up_and_a_path_is_checked() {
        assert!(find_program("sh", "/nowhere:/usr/bin:/bin").is_some_and(|path| path.is_absolute()));
        assert!(find_program("/bin/sh", "").is_some());
        for (name, path) in [("sh", "/nowhere"), ("/etc/passwd", "/bin"), ("/bin/none", "/bin"), ("", "/bin")] {
            assert_eq!(find_program(name, path), None, "{name}");
        }
    }
}
