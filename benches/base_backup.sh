#!/bin/bash
# A base backup and its restore to the first query: runbook, pgBackRest and a hand-written script, in turns, on one cluster.
#
#   benches/base_backup.sh RUNBOOK [SCALE] [TURNS] [FOLDER]
#
# RUNBOOK is a release build, BEFORE another one that takes turns with it; SCALE is pgbench's (100 is about 1.5 GB);
# SEGMENTS (54) is how much WAL follows the backups. Everything lies in a new folder below FOLDER and is removed in the end;
# it wants ten times the database's size. The stores are folders, so that no server takes part. How it measures:
# `measure/cases.sh`. Needs PostgreSQL's server programs, pgbackrest, zstd, and cgroups. Run it as root.
set -euo pipefail

runbook=$(realpath "$1") scale=${2:-100} turns=${3:-3} segments=${SEGMENTS:-54}
home=$(mktemp -d "${4:-/var/tmp}/bench.XXXXXX")
. "$(dirname "$0")/measure/cases.sh"

mkdir "$home"/{seed,wal,repo,store,spool,lock,log_pgbackrest,state}
install -m 755 "$runbook" "$home/runbook"
[ -z "${BEFORE:-}" ] || install -m 755 "$BEFORE" "$home/before"
cat > "$home/inventory.yaml" <<YAML
version: 1
databases: { main: { pgdata: $data, port: $port, socket: $home, bin: $bin, store: primary, prefix: main } }
stores: { primary: { url: "file://$home/store", compression: { format: zstd, level: 3 } } }
environments: { bench: { default: true } }
YAML
cat > "$home/restore.yaml" <<YAML
version: 1
name: restore
params: { database: { type: database } }
steps:
  - { id: choose, uses: backup.find, with: { database: "{{ params.database }}", kind: postgres.base } }
  - { id: stage, uses: postgres.restore_base, with: { database: "{{ params.database }}", backup: "{{ steps.choose.backup }}" } }
  - { id: recover, uses: postgres.recover, with: { database: "{{ params.database }}", staged: "{{ steps.stage.staged }}" } }
YAML
cat > "$home/wal.json" <<JSON
{ "store": { "url": "file://$home/store", "compression": { "format": "zstd", "level": 3 } }, "prefix": "main" }
JSON
conf() {
  cat <<CONF
[global]
repo1-path=$home/repo
log-path=$home/log_pgbackrest
spool-path=$home/spool
lock-path=$home/lock
log-level-console=warn
log-level-file=off
compress-type=zst
compress-level=3
process-max=2
start-fast=y
$1
[main]
pg1-path=$data
pg1-port=$port
pg1-socket-path=$home
CONF
}
conf "" > "$home/pgbackrest.conf"; conf archive-async=y > "$home/async.conf"
cat > "$home/archive-with-pgbackrest" <<SH
#!/bin/sh
$home/runbook wal push --config $home/wal.json "\$1" && pgbackrest --config=$home/pgbackrest.conf --stanza=main archive-push "\$1" && cp "\$1" $home/wal/
SH
chmod +x "$home/archive-with-pgbackrest"; chown -R $user: "$home"
pgbackrest() { as pgbackrest --config="$home/pgbackrest.conf" --stanza=main "$@"; }
as "$bin/initdb" -k -A trust -U $user --no-sync --locale=C -D "$data" >/dev/null
cat >> "$data/postgresql.conf" <<CONF
port = $port
listen_addresses = ''
unix_socket_directories = '$home'
shared_buffers = 256MB
max_wal_size = 4GB
checkpoint_timeout = 1h
archive_mode = on
archive_command = '$home/archive-with-pgbackrest %p'
CONF
start
(cd "$data" && as "$home/runbook" wal init --config "$home/wal.json" >/dev/null)
pgbackrest stanza-create
as "$bin/pgbench" -q -i -s "$scale" -h "$home" -p $port postgres >/dev/null 2>&1
sql CHECKPOINT
waiting() { find "$data/pg_wal/archive_status" -name '*.ready' | wc -l; }
until [ "$(waiting)" = 0 ]; do pause 1; done
echo "database: $(sql "SELECT pg_size_pretty(sum(pg_database_size(oid))) FROM pg_database"), $turns turns, $(machine)"

for _ in $(seq "$turns"); do
  rm -rf "$home"/seed/* "$home/floor.zst"
  case_ backup.seed bash -c "'$bin/pg_basebackup' -h '$home' -p $port -D '$home/seed/new' -Ft -z -c fast && cp -r '$home/seed/new' '$home/seed/stored' && rm -rf '$home/seed/new'"
  case_ backup.pgbackrest pgbackrest --config="$home/pgbackrest.conf" --stanza=main --type=full --repo1-retention-full=1 backup
  case_ backup.runbook "$home/runbook" run base-backup -p database=main --confirm bench
  [ -z "${BEFORE:-}" ] || case_ backup.before "$home/before" run base-backup -p database=main --confirm bench
  case_ backup.floor bash -c "tar -C '$data' --exclude=./pg_wal -cf - . | zstd -q -1 -T2 -o '$home/floor.zst'"
  rm -f "$home/floor.zst"
done
stored() { du -sm "$@" | awk '{ print $1 }'; }
echo "stored MiB: seed $(stored "$home/seed/stored"), pgBackRest $(stored "$home/repo/backup/main"), runbook $(stored "$(find "$home/store/main/base" -mindepth 1 -maxdepth 1 | tail -1)")"

from=$(ls "$home/wal" | wc -l)
while [ $(($(ls "$home/wal" | wc -l) + $(waiting) - from)) -lt "$segments" ]; do
  PGOPTIONS='-c synchronous_commit=off' as "$bin/pgbench" -n -c 4 -t 10000 -h "$home" -p $port postgres >/dev/null 2>&1
done
sql "SELECT pg_switch_wal()" >/dev/null
until [ "$(waiting)" = 0 ]; do pause 1; done
echo "WAL after the backups: $(($(ls "$home/wal" | wc -l) - from)) segments in each archive"
stop; cp -a "$data" "$home/kept"; cp -a "$home/store" "$home/store.before"
# What the restored servers archive goes to runbook's store alone, which is put back each time.
printf '#!/bin/sh\n%s\n' "exec $home/runbook wal push --config $home/wal.json \"\$1\"" > "$home/archive-with-pgbackrest"
again() { rm -rf "$data" "$data".runbook-*; mkdir -m 700 "$data"; chown $user: "$data"; }
up="'$bin/pg_ctl' -D '$data' -w -t 300 -l '$home/log' start"
for _ in $(seq "$turns"); do
  again
  FIRST=yes case_ restore.seed bash -c "tar -C '$data' -xzf '$home/seed/stored/base.tar.gz' && tar -C '$data/pg_wal' -xzf '$home/seed/stored/pg_wal.tar.gz' && printf \"restore_command = 'cp $home/wal/%%f %%p'\narchive_mode = off\n\" >> '$data/postgresql.auto.conf' && touch '$data/recovery.signal' && $up"
  stop; again; rm -rf "$home"/spool/*
  FIRST=yes case_ restore.pgbackrest bash -c "pgbackrest --config='$home/async.conf' --stanza=main --archive-mode=off restore && $up"
  for program in runbook ${BEFORE:+before}; do
    stop; again; rmdir "$data"; rm -rf "$home/store"; cp -a "$home/store.before" "$home/store"
    FIRST=yes case_ restore.$program "$home/$program" run "$home/restore.yaml" -p database=main --confirm bench
  done
  stop; again
  case_ restore.floor bash -c "cp -a '$home/kept/.' '$data/' && sync"
done
medians
