#!/bin/bash
# A base backup and its restore to the first query: runbook, pgBackRest and a hand-written script, in turns, on one cluster.
#
#   benches/base_backup.sh RUNBOOK [SCALE] [TURNS] [FOLDER]
#
# RUNBOOK is a release build; SCALE is pgbench's (100 is about 1.5 GB); SEGMENTS (54) is how much WAL follows the backups.
# Everything lies in a new folder below FOLDER and is removed in the end; it wants ten times the database's size. The stores
# are folders, so that no server takes part. Each case runs in a control group of its own: its CPU counts whoever works in
# it, a server that it starts and a process that it leaves behind too. Beside it stands the CPU of the server that is backed
# up, and the most memory that all processes of the case but the servers' took at once, looked at ten times a second.
# Needs PostgreSQL's server programs, pgbackrest, zstd, and cgroups. Run it as root.
set -euo pipefail

runbook=$(realpath "$1") scale=${2:-100} turns=${3:-3} segments=${SEGMENTS:-54}
home=$(mktemp -d "${4:-/var/tmp}/bench.XXXXXX")
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1) port=54329 user=postgres
data=$home/data groups=/sys/fs/cgroup
[ -d $groups/cpuacct ] && groups=$groups/cpuacct
groups=$groups/bench.$$; mkdir "$groups"
as() { runuser -u $user -- env RUNBOOK_STATE="$home/state" PATH="$PATH" "$@"; }
end() {
  as "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null 2>&1 || true
  # What a stopped server had started may still write.
  until [ -n "${KEEP:-}" ] || rm -rf "$home" 2>/dev/null; do sleep 0.5; done
  for _ in $(seq 50); do rmdir "$groups"/* "$groups" 2>/dev/null && break; sleep 0.2; done
}
trap end EXIT
chmod 755 "$home"; mkfifo "$home/never"; exec 7<>"$home/never"
sql() { as "$bin/psql" -XAtq -h "$home" -p $port -d postgres -c "$1"; }
pause() { read -rt "$1" <&7 || true; }

# Puts the calling shell into a group.
enter() { mkdir -p "$groups/$1"; echo "$BASHPID" > "$groups/$1/cgroup.procs"; }
# Milliseconds of CPU that a group has used.
used() {
  if [ -f "$groups/$1/cpuacct.usage" ]; then echo $(($(<"$groups/$1/cpuacct.usage") / 1000000))
  else awk '/^usage_usec/ { printf "%d", $2 / 1000 }' "$groups/$1/cpu.stat"; fi
}
now() { echo $((${EPOCHREALTIME/./} / 1000)); }
# The most KiB that the processes of a group but the servers' have had at once, until it is ended; files they share count once.
watch() {
  local most=0 sum files pages shared name pid
  while [ -e "$home/watching" ]; do
    sum=0 files=0
    while read -r pid; do
      { read -r name < "/proc/$pid/comm" && read -r _ pages shared _ < "/proc/$pid/statm"; } 2>/dev/null || continue
      [[ $name == postgres || $name == bash || $name == runuser ]] && continue
      sum=$((sum + (pages - shared) * 4))
      ((shared * 4 > files)) && files=$((shared * 4))
    done < "$groups/$1/cgroup.procs"
    ((sum + files > most)) && most=$((sum + files))
    pause 0.1
  done
  echo $most > "$home/most"
}
# Runs a case in a group of its own and keeps its figures; FIRST=yes waits for the server that it starts.
case_() {
  local name=$1 group=$1.$RANDOM$RANDOM server began wall; shift
  sync; mkdir "$groups/$group"; touch "$home/watching"
  watch "$group" & local watcher=$!
  server=$(used server); began=$(now)
  (enter "$group"; cd "$home"; exec 7>&-; exec runuser -u $user -- env RUNBOOK_STATE="$home/state" PATH="$PATH" "$@" >> "$home/said" 2>&1) \
    || { tail -30 "$home/said" >&2; exit 1; } &
  local running=$!
  [ "${FIRST:-}" = yes ] && first "$running"
  [ "${FIRST:-}" = yes ] && wall=$(($(now) - began))
  wait $running; wall=${wall:-$(($(now) - began))}
  rm "$home/watching"; wait $watcher
  echo "$wall $(used "$group") $(($(used server) - server)) $(<"$home/most") $(($(now) - began))" >> "$home/times.$name"
  tail -1 "$home/times.$name" | sed "s/^/  $name: wall, CPU, server's CPU (ms), KiB, end (ms): /"
}
# Waits until the server of the data directory is open.
first() {
  until [ -e "$data/postmaster.pid" ] || ! kill -0 "$1" 2>/dev/null; do pause 0.02; done
  until [ "$(sql 'SELECT NOT pg_is_in_recovery() AND count(*) > 0 FROM pgbench_accounts WHERE aid < 100' 2>/dev/null)" = t ]; do pause 0.05; done
}
start() { (enter server; as "$bin/pg_ctl" -D "$data" -w -t 300 -l "$home/log" start >/dev/null); }
stop() { as "$bin/pg_ctl" -D "$data" -m fast -w stop >/dev/null; }

mkdir "$home"/{seed,wal,repo,store,spool,lock,log_pgbackrest,state}
install -m 755 "$runbook" "$home/runbook"
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
echo "database: $(sql "SELECT pg_size_pretty(sum(pg_database_size(oid))) FROM pg_database"), $turns turns, $(nproc) cores, $(uname -r), $(cut -d' ' -f1-3 /proc/loadavg)"

for _ in $(seq "$turns"); do
  rm -rf "$home"/seed/* "$home/floor.zst"
  case_ backup.seed bash -c "'$bin/pg_basebackup' -h '$home' -p $port -D '$home/seed/new' -Ft -z -c fast && cp -r '$home/seed/new' '$home/seed/stored' && rm -rf '$home/seed/new'"
  case_ backup.pgbackrest pgbackrest --config="$home/pgbackrest.conf" --stanza=main --type=full --repo1-retention-full=1 backup
  case_ backup.runbook "$home/runbook" run base-backup -p database=main --confirm bench
  case_ backup.floor bash -c "tar -C '$data' --exclude=./pg_wal -cf - . | zstd -q -1 -T2 -o '$home/floor.zst'"
  rm -f "$home/floor.zst"
done
stored() { du -sm "$@" | awk '{ sum += $1 } END { print sum }'; }
echo "stored MiB, WAL included: seed $(stored "$home/seed/stored"), pgBackRest $(stored "$home/repo/backup"), runbook $(stored "$home"/store/main/*/ | tail -1) in all its backups and WAL"

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
  stop; again; rmdir "$data"
  FIRST=yes case_ restore.runbook "$home/runbook" run "$home/restore.yaml" -p database=main --confirm bench
  stop; rm -rf "$home/store"; cp -a "$home/store.before" "$home/store"; again
  case_ restore.floor bash -c "cp -a '$home/kept/.' '$data/' && sync"
done
middle() { sort -n | awk '{ all[NR] = $1 } END { printf "%.2f s (%.2f-%.2f)", all[int((NR + 1) / 2)] / 1000, all[1] / 1000, all[NR] / 1000 }'; }
for file in "$home"/times.*; do
  column() { awk -v n="$1" '{ print $n }' "$file"; }
  printf '%-20s wall %s, CPU %s, of the server that was there %s, memory %s MiB, its own end after %s\n' "${file##*times.}" \
    "$(column 1 | middle)" "$(column 2 | middle)" "$(column 3 | middle)" "$(column 4 | sort -n | tail -1 | awk '{ printf "%.0f", $1 / 1024 }')" "$(column 5 | middle)"
done
echo "load in the end: $(cut -d' ' -f1-3 /proc/loadavg)"
