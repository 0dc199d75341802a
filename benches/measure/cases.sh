# Cases that take turns on one PostgreSQL server, and what each costs. Sourced by the scripts beside this folder, which set
# `home`: a new folder, removed in the end. Run as root.
#
# Each case runs in a control group of its own: its CPU counts whoever works in it, a server that it starts and a process
# that it leaves behind too. Beside it stands the CPU of the server that was there before, and the most memory that all
# processes of the case but the servers' took at once, looked at ten times a second: with what they share counted once, and
# as the sum of what each has resident.
# shellcheck shell=bash

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
start() { (enter server; as "$bin/pg_ctl" -D "$data" -w -t 300 -l "$home/log" start >/dev/null); }
stop() { as "$bin/pg_ctl" -D "$data" -m fast -w stop >/dev/null; }

# Puts the calling shell into a group.
enter() { mkdir -p "$groups/$1"; echo "$BASHPID" > "$groups/$1/cgroup.procs"; }
# Milliseconds of CPU that a group has used.
used() {
  if [ -f "$groups/$1/cpuacct.usage" ]; then echo $(($(<"$groups/$1/cpuacct.usage") / 1000000))
  else awk '/^usage_usec/ { printf "%d", $2 / 1000 }' "$groups/$1/cpu.stat"; fi
}
now() { echo $((${EPOCHREALTIME/./} / 1000)); }
# The most KiB that the processes of a group but the servers' have had at once, until it is ended: files they share
# counted once, and counted for each.
watch() {
  local most=0 all=0 sum files resident pages shared name pid
  while [ -e "$home/watching" ]; do
    sum=0 files=0 resident=0
    while read -r pid; do
      { read -r name < "/proc/$pid/comm" && read -r _ pages shared _ < "/proc/$pid/statm"; } 2>/dev/null || continue
      [[ $name == postgres || $name == bash || $name == runuser ]] && continue
      sum=$((sum + (pages - shared) * 4))
      resident=$((resident + pages * 4))
      ((shared * 4 > files)) && files=$((shared * 4))
    done < "$groups/$1/cgroup.procs"
    ((sum + files > most)) && most=$((sum + files))
    ((resident > all)) && all=$resident
    pause 0.1
  done
  echo $most $all > "$home/most"
}
# Runs a case in a group of its own and keeps its figures; FIRST=yes waits for the server that it starts.
case_() {
  local name=$1 group=$1.$RANDOM$RANDOM server began wall most all; shift
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
  read -r most all < "$home/most"
  echo "$wall $(used "$group") $(($(used server) - server)) $most $(($(now) - began)) $all" >> "$home/times.$name"
  tail -1 "$home/times.$name" | sed "s/^/  $name: wall, CPU, server's CPU (ms), KiB, end (ms), KiB resident: /"
}
# Waits until the server of the data directory is open.
first() {
  until [ -e "$data/postmaster.pid" ] || ! kill -0 "$1" 2>/dev/null; do pause 0.02; done
  until [ ! -e "$data/postmaster.pid" ] || [ "$(sql 'SELECT NOT pg_is_in_recovery() AND count(*) > 0 FROM pgbench_accounts WHERE aid < 100' 2>/dev/null)" = t ]; do pause 0.05; done
}

middle() { sort -n | awk '{ all[NR] = $1 } END { printf "%.2f s (%.2f-%.2f)", all[int((NR + 1) / 2)] / 1000, all[1] / 1000, all[NR] / 1000 }'; }
# The median, the least and the most of every case.
medians() {
  local file
  for file in "$home"/times.*; do
    column() { awk -v n="$1" '{ print $n }' "$file"; }
    mib() { sort -n | tail -1 | awk '{ printf "%.0f", $1 / 1024 }'; }
    printf '%-22s wall %s, CPU %s, of the server that was there %s, memory %s MiB (sum of the processes %s), its own end after %s\n' "${file##*times.}" \
      "$(column 1 | middle)" "$(column 2 | middle)" "$(column 3 | middle)" "$(column 4 | mib)" "$(column 6 | mib)" "$(column 5 | middle)"
  done
  echo "load in the end: $(cut -d' ' -f1-3 /proc/loadavg)"
}
machine() { echo "$(nproc) cores, $(uname -r), load $(cut -d' ' -f1-3 /proc/loadavg)"; }
