//! Users of the machine: `/etc/passwd` and `/etc/group` first, then `getent`, which knows directories.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::machine::LocalReader;
use crate::action::{CommandSpec, HostError};
use crate::base::redact::Redactor;
use crate::supervisor::{Life, RunAs};

/// Finds a user with all groups; `None` when the machine knows none of that name.
pub(super) fn find(name: &str, host: &LocalReader) -> Result<Option<RunAs>, HostError> {
    let passwd = read("/etc/passwd")?;
    let group = read("/etc/group")?;
    if let Some(user) = parse_user(name, &passwd) {
        return Ok(Some(with_groups(user, &group)));
    }
    let plain = !name.is_empty() && !name.starts_with('-') && !name.contains(':');
    if !plain || crate::action::ReadHost::find_program(host, "getent").is_none() {
        return Ok(None);
    }
    let mut spec = CommandSpec::new("getent").args(["passwd", name]);
    spec.timeout = Some(Duration::from_secs(10));
    let output = host.launcher().probe_blocking(host.task(spec, Life::Probe, &Redactor::default())?)?;
    let user = parse_user(name, &String::from_utf8_lossy(&output.stdout));
    Ok(user.map(|user| with_groups(user, &group)))
}

fn read(path: &str) -> Result<String, HostError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(HostError::File { operation: "read", path: Path::new(path).to_owned(), source }),
    }
}

fn parse_user(name: &str, passwd: &str) -> Option<RunAs> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, uid, gid, _, home, _] = fields[..] else { return None };
        if found != name {
            return None;
        }
        let gid = gid.parse().ok()?;
        Some(RunAs { name: name.to_owned(), uid: uid.parse().ok()?, gid, groups: vec![gid], home: PathBuf::from(home) })
    })
}

fn with_groups(mut user: RunAs, group: &str) -> RunAs {
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields[..] else { continue };
        if let Ok(gid) = gid.parse()
            && members.split(',').any(|member| member == user.name)
            && !user.groups.contains(&gid)
        {
            user.groups.push(gid);
        }
    }
    user
}

#[cfg(test)]
mod tests {
    use super::{parse_user, with_groups};

    #[test]
    fn a_user_comes_with_home_and_all_groups() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgres:x:105:109:,,,:/var/lib/postgresql:/bin/bash\n";
        let user = parse_user("postgres", passwd).expect("a user");
        let user = with_groups(user, "ssl-cert:x:104:other,postgres\npostgres:x:109:\nadm:x:4:syslog\n");
        assert_eq!((user.uid, user.gid, user.groups), (105, 109, vec![109, 104]));
        assert_eq!(user.home, std::path::Path::new("/var/lib/postgresql"));
        assert_eq!(parse_user("post", passwd), None);
    }
}
