//! What a person types to bring back a server in a container: its paths and its user are not this machine's, so the backup
//! is opened here first, and its files go into the volume when they need no archive any more.

use super::super::by_hand::{as_owner, by_hand_folder};
use super::super::layout::Cluster;
use crate::action::by_hand::{as_root, quoted, remark};

/// Opens the unpacked backup here, swaps its files into the volume and starts the container.
pub(crate) fn recover(cluster: &Cluster, settings: &[String], wait: Vec<String>) -> Vec<String> {
    let (folder, pgdata) = (by_hand_folder(cluster), cluster.pgdata.display().to_string());
    let data = format!("{folder}/data");
    let auto = quoted(&format!("{data}/postgresql.auto.conf"));
    let options = format!("-c port={} -c listen_addresses= -c unix_socket_directories={folder}", cluster.port);
    let old = format!("{pgdata}.old");
    let aside = format!("mkdir {old} && mv {pgdata}/* {old}/", old = quoted(&old), pgdata = quoted(&pgdata));
    let mut lines = vec![cluster.service_manager().stop_by_hand(cluster)];
    lines.push(remark(&format!(
        "WAL that the archive does not have yet lies in {pgdata}/pg_wal: copy it into {data}/pg_wal, owned as {data} is"
    )));
    lines.push(remark("by PostgreSQL of this machine, of the same major version:"));
    lines.extend(settings.iter().map(|setting| format!("echo {} >> {auto}", quoted(setting))));
    lines.push(as_owner(cluster, &["pg_ctl", "start", "-w", "-D", &data, "-o", &options]));
    lines.extend(wait);
    lines.push(as_owner(cluster, &["pg_ctl", "stop", "-w", "-D", &data]));
    lines.push(remark("the script has set `restore_command` there, and `archive_mode = off`: remove both lines"));
    lines.push(remark("keep the old data until the new one is proved; the volume's folder itself must stay"));
    lines.push(as_root(["sh", "-c", &aside]));
    // First: copying gives the folder itself the owner of what is copied.
    lines.push(as_root(["chown", "-R", &format!("--reference={pgdata}"), &data]));
    lines.push(as_root(["cp", "-a", &format!("{data}/."), &format!("{pgdata}/")]));
    lines.push(cluster.service_manager().start_by_hand(cluster));
    lines
}
