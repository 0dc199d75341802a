#!/bin/bash
# A base backup and its restore to the first query: runbook, pgBackRest and a hand-written script, in turns, on one cluster.
#
#   benches/base_backup.sh RUNBOOK [SCALE] [TURNS] [FOLDER]
#
# RUNBOOK is a release build; SCALE is pgbench's (100 is about 1.5 GB). Everything lies in a new folder below FOLDER and is
# removed in the end. The repositories are folders, so that no server takes part; the archive of all three is fed by one
# archive_command. Needs PostgreSQL's server programs, pgbackrest, zstd and /usr/bin/time. Run it as root.
set -euo pipefail

runbook=$(realpath "$1") scale=${2:-100} turns=${3:-3} home=$(mktemp -d "${4:-/var/tmp}/bench.XXXXXX")
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1) port=54329 user=postgres
data=$home/data
trap 'as "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$home"' EXIT
chmod 755 "$home"; chown $user: "$home"
as() { runuser -u $user -- env RUNBOOK_STATE="$home/state" PATH="$PATH" "$@"; }
sql() { as "$bin/psql" -XAtq -h "$home" -p $port -d postgres -c "$1"; }
start() { as "$bin/pg_ctl" -D "$data" -w -t 300 -l "$home/log" start >/dev/null; }
answers() { until [ "$(sql 'SELECT NOT pg_is_in_recovery() AND count(*) > 0 FROM pgbench_accounts WHERE aid < 100' 2>/dev/null)" = t ]; do sleep 0.05; done; }

mkdir "$home"/{seed,wal,repo,store,spool,log_pgbackrest,state}; chown -R $user: "$home"
install -m 755 "$runbook" "$home/runbook"
cat > "$home/inventory.yaml" <<YAML
version: 1
databases: { main: { pgdata: $data, port: $port, socket: $home, bin: $bin, store: primary, prefix: main } }
stores: { primary: { url: "file://$home/store" } }
environments: { bench: { default: true } }
YAML
cat > "$home/wal.json" <<JSON
{ "store": { "url": "file://$home/store" }, "prefix": "main" }
JSON
cat > "$home/pgbackrest.conf" <<CONF
[global]
repo1-path=$home/repo
log-path=$home/log_pgbackrest
spool-path=$home/spool
lock-path=$home/spool
log-level-console=warn
compress-type=zst
compress-level=3
process-max=2
start-fast=y
[main]
pg1-path=$data
pg1-port=$port
pg1-socket-path=$home
CONF
chown $user: "$home"/*
pgbackrest() { as pgbackrest --config="$home/pgbackrest.conf" --stanza=main "$@"; }
as "$bin/initdb" -k -A trust -U $user --no-sync --locale=C -D "$data" >/dev/null
cat >> "$data/postgresql.conf" <<CONF
port = $port
listen_addresses = ''
unix_socket_directories = '$home'
shared_buffers = 256MB
max_wal_size = 2GB
archive_mode = on
archive_command = '$home/runbook wal push --config $home/wal.json %p && pgbackrest --config=$home/pgbackrest.conf --stanza=main archive-push %p && cp %p $home/wal/%f'
CONF
start
pgbackrest stanza-create
(cd "$home" && as "$home/runbook" wal init --config "$home/wal.json" >/dev/null)
as "$bin/pgbench" -q -i -s "$scale" -h "$home" -p $port postgres >/dev/null 2>&1
sql CHECKPOINT
echo "database: $(sql "SELECT pg_size_pretty(sum(pg_database_size(oid))) FROM pg_database"), $turns turns, load $(cut -d' ' -f1 /proc/loadavg)"

# Runs a case; appends wall, CPU and the largest process's memory to its file.
case_() {
  local name=$1; shift
  sync
  (cd "$home" && /usr/bin/time -a -o "$home/times.$name" -f '%e %U %S %M' runuser -u $user -- env RUNBOOK_STATE="$home/state" PATH="$PATH" BENCH="$home" "$@")
}
middle() { sort -n | awk '{ all[NR] = $1 } END { printf "%.2f s (%.2f-%.2f)", all[int((NR + 1) / 2)], all[1], all[NR] }'; }
medians() {
  for file in "$home"/times.*; do
    printf '%-20s wall %s, CPU %s, largest process %s MB\n' "${file##*times.}" "$(awk '{ print $1 }' "$file" | middle)" \
      "$(awk '{ print $2 + $3 }' "$file" | middle)" "$(awk '{ if ($4 > most) most = $4 } END { printf "%.0f", most / 1024 }' "$file")"
  done
}
for _ in $(seq "$turns"); do
  rm -rf "$home"/seed/* "$home/floor.zst"
  case_ backup.seed bash -c "'$bin/pg_basebackup' -h '$home' -p $port -D '$home/seed/new' -Ft -z -c fast && cp -r '$home/seed/new' '$home/seed/stored' && rm -rf '$home/seed/new'"
  case_ backup.pgbackrest pgbackrest --config="$home/pgbackrest.conf" --stanza=main --type=full --repo1-retention-full=1 backup
  case_ backup.runbook "$home/runbook" run base-backup -p database=main --confirm bench
  case_ backup.floor bash -c "tar -C '$data' --exclude=pg_wal -cf - . | zstd -q -3 -T2 -o '$home/floor.zst'"
done
as "$bin/pgbench" -q -c 4 -t 20000 -h "$home" -p $port postgres >/dev/null 2>&1
sql "SELECT pg_switch_wal()"; sql CHECKPOINT; sleep 5
echo "WAL after the backups: $(ls "$home/wal" | wc -l) segments in the archive"
stop() { as "$bin/pg_ctl" -D "$data" -m fast -w stop >/dev/null; }
stop; cp -a "$data" "$home/kept"
again() { rm -rf "$data" "$data".runbook-*; mkdir -m 700 "$data"; chown $user: "$data"; sync; }
for _ in $(seq "$turns"); do
  again
  case_ restore.seed bash -c "tar -C '$data' -xzf '$home/seed/stored/base.tar.gz' && tar -C '$data/pg_wal' -xzf '$home/seed/stored/pg_wal.tar.gz' && echo \"restore_command = 'cp $home/wal/%f %p'\" >> '$data/postgresql.auto.conf' && echo \"archive_mode = off\" >> '$data/postgresql.auto.conf' && echo \"recovery_target_action = promote\" >> '$data/postgresql.auto.conf' && touch '$data/recovery.signal' && '$bin/pg_ctl' -D '$data' -w -t 300 -l '$home/log' start >/dev/null && until [ \"\$('$bin/psql' -XAtq -h '$home' -p $port -d postgres -c 'SELECT NOT pg_is_in_recovery()' 2>/dev/null)\" = t ]; do sleep 0.05; done"
  stop; again
  case_ restore.pgbackrest bash -c "pgbackrest --config='$home/pgbackrest.conf' --stanza=main --archive-mode=off restore && '$bin/pg_ctl' -D '$data' -w -t 300 -l '$home/log' start >/dev/null && until [ \"\$('$bin/psql' -XAtq -h '$home' -p $port -d postgres -c 'SELECT NOT pg_is_in_recovery()' 2>/dev/null)\" = t ]; do sleep 0.05; done"
  stop; again; rmdir "$data"
  cp -a "$home/store" "$home/store.before"
  case_ restore.runbook "$home/runbook" run full-db-loss -p database=main --confirm bench
  stop; rm -rf "$home/store"; mv "$home/store.before" "$home/store"; again
  case_ restore.floor bash -c "cp -a '$home/kept/.' '$data/' && sync"
done
medians
