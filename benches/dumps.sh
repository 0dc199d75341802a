#!/bin/bash
# A logical dump into a store: `postgres.dump` against what careful scripts do, in turns, on one cluster.
#
#   benches/dumps.sh RUNBOOK [SCALE] [TURNS] [FOLDER]
#
# RUNBOOK is a release build; SCALE is pgbench's (50 is about 0.75 GB). Everything lies in a new folder below FOLDER and is
# removed in the end. By hand means `pg_dump` into a file, `sha256sum`, and a durable copy of it in the store's folder. Ours
# adds row counts of the dump's own snapshot, globals, the list of what lies in the store, and a manifest. How it measures:
# `measure/cases.sh`. Needs PostgreSQL's server programs and cgroups. Run it as root.
set -euo pipefail

runbook=$(realpath "$1") scale=${2:-50} turns=${3:-3}
home=$(mktemp -d "${4:-/var/tmp}/bench.XXXXXX")
. "$(dirname "$0")/measure/cases.sh"

mkdir "$home"/{store,by-hand,copies,state}
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
dump() {
  cat > "$home/$1.yaml" <<YAML
version: 1
name: dump
steps:
  - { id: dump, uses: postgres.dump, with: { database: main, $2 } }
YAML
}
dump custom "format: custom"
dump bare "format: custom, facts: off"
dump directory "format: directory, jobs: 2"
chown -R $user: "$home"
as "$bin/initdb" -A trust -U $user --no-sync --locale=C -D "$data" >/dev/null
printf "port = %s\nlisten_addresses = ''\nunix_socket_directories = '%s'\nshared_buffers = 256MB\nmax_wal_size = 4GB\n" $port "$home" >> "$data/postgresql.conf"
start
(cd "$data" && as "$home/runbook" wal init --config "$home/wal.json" >/dev/null)
as "$bin/pgbench" -q -i -s "$scale" -h "$home" -p $port postgres >/dev/null 2>&1
sql "CREATE TABLE note AS SELECT n AS id, md5(n::text) || md5((n * 7)::text) AS text, now() - n * interval '1s' AS at FROM generate_series(1, $scale * 20000) n"
sql "VACUUM ANALYZE"; sql CHECKPOINT
echo "database: $(sql "SELECT pg_size_pretty(pg_database_size('postgres'))"), $turns turns, $(machine)"

by_hand() {
  local name=$1; shift
  rm -rf "$home/by-hand/x" "$home/copies/x"
  case_ "$name" bash -c "set -e; '$bin/pg_dump' -h '$home' -p $port $* postgres; if [ -e by-hand/x ]; then find by-hand/x -type f -exec sha256sum {} + > by-hand/sums; cp -r by-hand/x copies/x; sync copies; fi"
}
for _ in $(seq "$turns"); do
  case_ ours.custom "$home/runbook" run custom.yaml
  by_hand script.Fc-Z9 -Fc -Z9 -f by-hand/x
  by_hand script.Fc -Fc -f by-hand/x
  case_ ours.no-facts "$home/runbook" run bare.yaml
  by_hand script.Fd-j2-Z1 -Fd -j2 -Z1 -f by-hand/x
  case_ ours.directory-j2 "$home/runbook" run directory.yaml
  by_hand floor.Z0-null -Fc -Z0 ">" /dev/null
done
medians
