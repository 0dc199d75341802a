#!/bin/bash
# What PostgreSQL's own archiver and its own recovery make of the commands that archive and fetch WAL: ours with and without
# a spool, `cp`, and pgBackRest, synchronous and asynchronous, in turns. The floor of archiving is `zstd -3` and a sync of the
# file and its folder, which proves nothing; that of replay is `cp`.
#
#   benches/wal.sh RUNBOOK [SEGMENTS] [TURNS] [FOLDER]
#
# RUNBOOK is a release build. Everything lies in a new folder below FOLDER and is removed in the end. The archives are
# folders; with S3=URL of a server of `cargo bench --bench s3_client -- --serve` ours is measured into that, too, and with
# TLS=https://localhost:PORT of a server of S3 behind TLS, whose authority stands in SSL_CERT_FILE, ours and pgBackRest are
# measured into its bucket `depot`. Every segment is archived once more for each case, then a new server replays them from
# the archive that was made. How it measures: `measure/cases.sh`. Needs PostgreSQL's server programs, pgbackrest, and cgroups. Run it as root.
set -euo pipefail

runbook=$(realpath "$1") wanted=${2:-40} turns=${3:-3}
home=$(mktemp -d "${4:-/var/tmp}/bench.XXXXXX")
. "$(dirname "$0")/measure/cases.sh"

mkdir "$home"/{store,copied,repo,spool,lock,log_pgbackrest,state,ahead}; chmod 700 "$home/ahead"
install -m 755 "$runbook" "$home/runbook"
printf robot-of-the-tests > "$home/id"; printf the-secret-access-key-of-the-robot > "$home/key"
config() { # name, store, more
  cat > "$home/$1.yaml" <<YAML
store: $2
prefix: $1-TURN
secrets: { id: { file: $home/id }, key: { file: $home/key } }
$3
YAML
}
folder="{ url: \"file://$home/store\" }"
bucket="{ url: \"s3://depot/below\", endpoint: \"${S3:-}\", region: eu-west-1, credentials: { access_key_id: id, secret_access_key: key } }"
config ours "$folder" "ahead: 0"
config ours-spool "$folder" "spool: $home/ahead"
config s3 "$bucket" "ahead: 0"
config s3-spool "$bucket" "spool: $home/ahead"
tls="{ url: \"s3://depot/below-${home##*.}\", endpoint: \"${TLS:-}\", region: eu-west-1, credentials: { access_key_id: id, secret_access_key: key } }"
config tls "$tls" "ahead: 0"
config tls-spool "$tls" "spool: $home/ahead"
for kind in sync async sync-tls async-tls; do
  cat > "$home/pgbackrest-$kind.conf" <<CONF
[global]
repo1-path=$home/repo
log-path=$home/log_pgbackrest
spool-path=$home/spool
lock-path=$home/lock
log-level-file=off
log-level-console=off
compress-type=zst
compress-level=3
archive-async=$([ "${kind%-tls}" = async ] && echo y || echo n)
process-max=2
[main]
pg1-path=$data
pg1-port=$port
pg1-socket-path=$home
CONF
done
tls_port=${TLS:-} tls_port=${tls_port##*:}
for kind in sync-tls async-tls; do
  sed -i "s|^repo1-path=.*|repo1-path=/peer-$kind-${home##*.}-TURN\nrepo1-type=s3\nrepo1-s3-bucket=depot\nrepo1-s3-region=eu-west-1\nrepo1-s3-uri-style=path\nrepo1-s3-endpoint=localhost\nrepo1-storage-port=$tls_port\nrepo1-storage-verify-tls=n\nrepo1-s3-key=$(cat "$home/id")\nrepo1-s3-key-secret=$(cat "$home/key")|" \
    "$home/pgbackrest-$kind.conf"
done
chown -R $user: "$home"
as "$bin/initdb" -k -A trust -U $user --no-sync --locale=C -D "$data" >/dev/null
cat >> "$data/postgresql.conf" <<CONF
port = $port
listen_addresses = ''
unix_socket_directories = '$home'
shared_buffers = 256MB
max_wal_size = 16GB
wal_keep_size = 16GB
checkpoint_timeout = 1h
synchronous_commit = off
archive_mode = on
CONF
start
(cd "$data" && sed s/TURN/0/ "$home/ours.yaml" > "$home/init.yaml" && as "$home/runbook" wal init --config "$home/init.yaml" 2>/dev/null >/dev/null)
as "$bin/pgbench" -q -i -s 20 -h "$home" -p $port postgres >/dev/null 2>&1
status=$data/pg_wal/archive_status
sql "SELECT pg_switch_wal()" >/dev/null
# What came before the backup is not asked for.
find "$status" -name '*.ready' -delete
as "$bin/pg_basebackup" -h "$home" -p $port -c fast -X fetch -D "$home/backup"
waiting() { find "$status" -name '*.ready' | wc -l; }
while [ "$(waiting)" -lt "$wanted" ]; do
  # After a checkpoint pages are logged whole, as by a busy server.
  sql CHECKPOINT
  as "$bin/pgbench" -n -c 2 -t 10000 -h "$home" -p $port postgres >/dev/null 2>&1
done
sql "SELECT pg_switch_wal()" >/dev/null
segments=$(waiting)
echo "$segments files of WAL, $turns turns, $(machine)"

tell() { sql "ALTER SYSTEM SET archive_command = '$1'"; sql "SELECT pg_reload_conf()" >/dev/null; }
# Lets the server archive every segment once more.
archive() {
  local name=$1 push=$2 began server wall most all
  tell ""
  for file in "$status"/*.done; do [ -e "$file" ] && mv "$file" "${file%.done}.ready"; done
  sync; touch "$home/watching"; watch server & local watcher=$!
  server=$(used server); began=$(now)
  tell "$push"
  until [ "$(waiting)" = 0 ]; do pause 0.01; done
  wall=$(($(now) - began)) server=$(($(used server) - server))
  rm "$home/watching"; wait $watcher
  read -r most all < "$home/most"
  echo "$wall $server 0 $most $wall $all" >> "$home/times.archive.$name"
  tail -1 "$home/times.archive.$name" | sed "s/^/  archive.$name: wall, CPU, -, KiB, wall, KiB resident: /"
}
# Lets a new server replay everything.
replay() {
  local name=$1 fetch=$2 data=$home/replica port=54330
  rm -rf "$data"; cp -a "$home/backup" "$data"; touch "$data/recovery.signal"
  printf "port = %s\narchive_mode = off\nrestore_command = '%s'\n" $port "$fetch" >> "$data/postgresql.conf"
  chown -R $user: "$data"
  FIRST=yes case_ "replay.$name" "$bin/pg_ctl" -D "$data" -w -t 300 -l "$home/log.replica" start
  as "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null
}
ours() {
  local config=$home/$1-$turn.yaml
  sed "s/TURN/$turn/" "$home/$1.yaml" > "$config"; rm -rf "$home"/ahead/*; chmod 644 "$config"
  archive "$1" "${SSL_CERT_FILE:+SSL_CERT_FILE=$SSL_CERT_FILE }$home/runbook wal push --config $config %p"
  replay "$1" "${SSL_CERT_FILE:+SSL_CERT_FILE=$SSL_CERT_FILE }$home/runbook wal fetch --config $config %f %p"
}
peer() {
  local config=$home/pgbackrest-$1-$turn.conf
  local words="pgbackrest --config=$config --stanza=main"
  sed "s/TURN/$turn/" "$home/pgbackrest-$1.conf" > "$config"; chmod 644 "$config"
  rm -rf "$home"/repo/* "$home"/spool/*
  as $words stanza-create
  archive "pgbackrest-$1" "$words archive-push %p"
  rm -rf "$home"/spool/*
  replay "pgbackrest-$1" "${words} --pg1-path=$home/replica archive-get %f %p"
}
for turn in $(seq "$turns"); do
  rm -rf "$home"/copied/*
  archive cp "cp %p $home/copied/%f"; replay cp "cp $home/copied/%f %p"
  archive floor "zstd -q -3 %p -o $home/copied/%f.zst && sync $home/copied/%f.zst $home/copied"
  peer sync; ours ours; peer async; ours ours-spool
  [ -z "${S3:-}" ] || { ours s3; ours s3-spool; }
  [ -z "${TLS:-}" ] || { peer sync-tls; ours tls; peer async-tls; ours tls-spool; }
done
medians
for file in "$home"/times.archive.* "$home"/times.replay.*; do
  sort -n "$file" | awk -v name="${file##*times.}" -v n="$segments" '{ wall[NR] = $1; cpu[NR] = $2 }
    END { at = int((NR + 1) / 2); printf "%-26s %7.1f ms per segment, %6.1f segments/s, CPU %6.1f ms per segment\n", name, wall[at] / n, n * 1000 / wall[at], cpu[at] / n }'
done
