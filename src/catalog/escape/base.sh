chmod 700 "$stage/data"
# One of another version does not read this manifest.
verify=$(program pg_verifybackup)
if [ -n "$verify" ] && [ -f "$stage/data/backup_manifest" ]; then
    say '3. pg_verifybackup reads every file'
    "$verify" --no-parse-wal --quiet "$stage/data" >&2 || die "the data in $stage is damaged"
else
    say '3. pg_verifybackup of PostgreSQL @MAJOR@ is not there: the digests above are all that was compared'
fi

@LINKED@say '4. writing recovery settings'
@MAP@if [ -n "$wal" ]; then
    fetcher >"$stage/fetch-wal.sh"
    {
        printf '%s\n' '# Written by restore.sh; remove these lines after the recovery.'
        printf '%s\n' "restore_command = 'sh \"$target/fetch-wal.sh\" \"$wal\" \"%f\" \"%p\" \"$identity\" \"$waldump\" \"$look\"'"
        printf '%s\n' "recovery_target_timeline = '$follow'"
        printf '%s\n' "# recovery_target_time = '2026-01-28 14:30:00+00'   (to stop before a mistake; then also recovery_target_action = 'pause')"
    } >>"$stage/data/postgresql.auto.conf"
    : >"$stage/data/recovery.signal"
else
    if [ -n "$look" ]; then
        first='' last=''
        for segment in "$stage"/data/pg_wal/*; do
            [ -f "$segment" ] || continue
            one=$(basename -- "$segment")
            # Histories and labels are no segments.
            case $one in *[!0-9A-F]*) continue ;; esac
            last=$one
            [ -n "$first" ] || first=$last
        done
        if [ -n "$first" ]; then used=$(outside "$waldump" "$stage/data/pg_wal" "$first" "$last" | sed -n 1p); else used=''; fi
        [ -z "$used" ] || die "its replay makes a tablespace in $used, where a server has one: move that folder away, or restore with --other-machine where no server uses it; what was written lies in $stage"
    fi
    say '   without --wal the server opens as it was at the end of the backup: what was archived later is lost'
fi
printf '%s\n' "archive_mode = 'off'" >>"$stage/data/postgresql.auto.conf"
place

@WORDS@