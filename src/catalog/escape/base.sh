chmod 700 "$stage/data"
if command -v pg_verifybackup >/dev/null 2>&1 && [ -f "$stage/data/backup_manifest" ]; then
    say '3. pg_verifybackup reads every file'
    pg_verifybackup --no-parse-wal --quiet "$stage/data" >&2 || die "the data in $stage is damaged"
else
    say '3. pg_verifybackup is not there: the digests above are all that was compared'
fi

say '4. writing recovery settings'
: >"$stage/data/tablespace_map.new"
@TABLESPACE_MAP@if [ -s "$stage/data/tablespace_map.new" ]; then
    mv -- "$stage/data/tablespace_map.new" "$stage/data/tablespace_map"
else
    rm -- "$stage/data/tablespace_map.new"
fi
if [ -z "$wal" ] && [ -d "$here/@WAL_FOLDER@" ]; then wal=$here/@WAL_FOLDER@; fi
if [ -n "$wal" ]; then
    wal=$(CDPATH='' cd -- "$wal" && pwd -P) || die "the WAL folder cannot be entered"
    if [ -n "$identity" ]; then
        identity=$(CDPATH='' cd -- "$(dirname -- "$identity")" && pwd -P)/$(basename -- "$identity")
    fi
    case $wal$target$identity in *[\'\"\\%\$\`]*) die "a path with quotes, backslashes, dollars or % cannot stand in restore_command: $wal, $target, $identity" ;; esac
    cat >"$stage/fetch-wal.sh" <<'FETCH'
@FETCH@FETCH
    {
        printf '%s\n' '# Written by restore.sh; remove these lines after the recovery.'
        printf '%s\n' "restore_command = 'sh \"$target/fetch-wal.sh\" \"$wal\" \"%f\" \"%p\" \"$identity\"'"
        printf '%s\n' "recovery_target_timeline = 'latest'"
        printf '%s\n' "# recovery_target_time = '2026-01-28 14:30:00+00'   (to stop before a mistake; then also recovery_target_action = 'pause')"
    } >>"$stage/data/postgresql.auto.conf"
    : >"$stage/data/recovery.signal"
else
    say '   without --wal the server opens as it was at the end of the backup: what was archived later is lost'
fi
printf '%s\n' "archive_mode = 'off'" >>"$stage/data/postgresql.auto.conf"
place

say "5. ready: $target/data (PostgreSQL @VERSION@, system @SYSTEM_ID@)"
say '   NEVER remove backup_label: without it the server starts and is silently corrupt.'
say '   The data must belong to the user that runs the server: chown -R postgres: TARGET'
say '   Where postgresql.conf lies outside the data directory, bring your own or an empty one with pg_hba.conf.'
say "   Start it beside the old server, on another port: pg_ctl -D $target/data -o '-p 5499' -w start"
say '   It archives nothing until archive_mode is set again in postgresql.auto.conf: do that when it is the server you keep.'
say '   Keep the old data directory until you have looked at the new one.'
