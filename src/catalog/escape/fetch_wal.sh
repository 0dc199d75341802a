# restore_command: sh fetch-wal.sh FOLDER %f %p IDENTITY PG_WALDUMP LOOK; each of the last three may be empty. With LOOK no record is
# replayed that reaches into another server's folders.
# 0: copied. 1: surely absent, so recovery ends here. 126: anything else, so recovery stops instead of opening too early.
# restore.sh asks sh fetch-wal.sh FOLDER --timeline-OWN SCRATCH IDENTITY PG_WALDUMP WANTED END for the value of recovery_target_timeline:
# WANTED is the one that was asked for, or empty, and END is where the backup ends.
wal=$1 file=$2 to=$3 identity=${4:-} waldump=${5:-} look=${6:-}
fail() { echo "fetch-wal.sh: $*" >&2; rm -f -- "$to.opened" "$to.copying" "$to.longest"; exit 126; }
@TABLESPACE@# guard SEGMENT: ends the recovery before a segment is replayed that makes a tablespace where another server has one. A record
# may begin in the segment before, which is kept for that.
guard() {
    case $file in *.*) return 0 ;; esac
    [ -n "$look" ] || return 0
    [ -x "$waldump" ] || fail "$waldump is gone: nobody can see whether $file reaches into folders of another server"
    seen=$(dirname -- "$0")/wal-seen
    before='' timeline=$(printf '%.8s' "$file")
    mkdir -p -- "$seen" || fail "$seen cannot be made: the folder must belong to the user of the server"
    for one in "$seen"/*; do
        [ -f "$one" ] || continue
        name=$timeline$(basename -- "$one" | cut -c 9-)
        [ "$seen/$name" = "$one" ] || mv -- "$one" "$seen/$name" || fail "$one cannot be renamed"
        before=$name
    done
    [ "$before" != "$file" ] || before=''
    cp -- "$1" "$seen/$file" || fail "$seen/$file cannot be written"
    used=$({ [ -z "$before" ] || outside "$waldump" "$seen" "$before" "$file"; outside "$waldump" "$seen" "$file"; } | sed -n 1p)
    [ -z "$before" ] || rm -f -- "$seen/$before"
    [ -z "$used" ] || fail "$file makes a tablespace in $used, where a server has one already: replay would work in its files. Restore on a machine of its own with --other-machine, or, where that server is gone, move the folder away and put an empty one there"
}
# later FOLDER SEGMENT: finds a segment of a folder that comes after this one.
later() {
    for later in "$1"/*; do
        later=$(basename -- "$later")
        case $later in *.partial*|*.backup|'*') continue ;; esac
        if expr "x${later%%.*}" '>' "x$2" >/dev/null; then return 0; fi
    done
    return 1
}
# breaks_off FILE: its end was never written, and no record says that its server went on in the next one.
breaks_off() {
    [ -x "$waldump" ] || return 1
    [ "$(tail -c 8192 "$1" | tr -d '\000' | wc -c)" -eq 0 ] || return 1
    named=$(dirname -- "$0")/wal-ends
    { mkdir -p -- "$named" && cp -- "$1" "$named/$file"; } || fail "$named/$file cannot be written"
    ended=$("$waldump" "$named/$file" 2>/dev/null | tail -n 1)
    rm -f -- "$named/$file"
    case $ended in *'desc: SWITCH'*) return 1 ;; esac
}
# copy: unpacks the fullest copy of $file in $from into $to.longest, and says in $found where it lies; nothing where there is none.
copy() {
    found=''
    for stored in "$from/$file" "$from/$file".*; do
        [ -f "$stored" ] || continue
        ending=${stored#"$from/$file"}
        # A partial segment or a backup's label is another file than the segment it begins like.
        case $ending in .partial*|*.backup) continue ;; esac
        opened=$stored
        case $ending in
            *.age)
                [ -n "$identity" ] || fail "$stored is encrypted: restore with --identity FILE"
                opened=$to.opened
                age -d -i "$identity" -o "$opened" "$stored" || fail "$stored cannot be decrypted: where the key was changed, $identity may hold both identities, a line each"
                ending=${ending%.age} ;;
        esac
        case $ending in
            '') cat <"$opened" >"$to.copying" || fail "$stored cannot be copied" ;;
            .zst) zstd -q -d -c <"$opened" >"$to.copying" || fail "$stored cannot be unpacked" ;;
            .gz) gzip -d -c <"$opened" >"$to.copying" || fail "$stored cannot be unpacked" ;;
            .lz4) lz4 -q -d -c <"$opened" >"$to.copying" || fail "$stored cannot be unpacked" ;;
            *) fail "$stored must be decrypted first: nothing here can ask for its password" ;;
        esac
        rm -f -- "$to.opened"
        # Of a segment that a recovery saved unfinished there may be a second copy: where they differ, zeros are what was never written.
        if [ -n "$found" ]; then
            shorter=$(cmp -l -- "$to.longest" "$to.copying" 2>/dev/null | sed -n '1s/^ *[0-9]*  *\([0-7]*\) .*$/\1/p')
            if [ -z "$shorter" ] || [ "$shorter" -ne 0 ]; then continue; fi
        fi
        mv -- "$to.copying" "$to.longest" || fail "$to.longest cannot be written"
        found=$stored
    done
    rm -f -- "$to.copying"
}
# given_up TIMELINE: a recovery opened it before the end of the WAL and noted so beside its history, and no server went on with it.
given_up() {
    until=''
    for note in "$wal/history/$1".given-up.*.json; do
        # The last name is the furthest position, where there are several.
        if [ -f "$note" ]; then until=${note##*.given-up.}; until=${until%.json} told=$note; fi
    done
    [ -n "$until" ] || return 1
    file=$1$(printf '%.8s' "$until")$(printf '%08X' $((0x$(printf '%s' "$until" | cut -c 9-16) / @SEGMENT_BYTES@)))
    from=$wal/$1
    if later "$from" "$file"; then return 1; fi
    # What nobody can read tells nothing against the note: no later segment is there.
    if ! found=$(copy && printf '%s' "$found"); then
        unsure "$1" "$from/$file cannot be read"
        return 0
    fi
    [ -n "$found" ] || return 0
    if [ ! -x "$waldump" ] && [ "$(tail -c 8192 "$to.longest" | tr -d '\000' | wc -c)" -eq 0 ]; then
        rm -f -- "$to.longest"
        unsure "$1" "without pg_waldump in PATH nobody can see where $found ends"
        return 0
    fi
    gone_on=1
    if breaks_off "$to.longest"; then gone_on=''; fi
    rm -f -- "$to.longest"
    [ -z "$gone_on" ]
}
unsure() {
    echo "fetch-wal.sh: NOT KNOWN is whether a server went on with timeline $1 after $told was written: $2." >&2
    echo "fetch-wal.sh:    It is taken as given up. Where a server did go on with it, start again with --timeline $((0x$1))" >&2
}
# leads OWN END NEXT: a server of the backup's timeline can go on to this one: it parted from it behind the end of the backup.
leads() {
    file=$3.history from=$wal/history
    found=$(copy && printf '%s' "$found") || fail "$from/$file cannot be read: nobody can tell whether timeline $3 leads on from the backup"
    [ -n "$found" ] || fail "$from/$file is missing"
    parted=$(sed -n "s|^[[:space:]]*$((0x$1))[[:space:]][[:space:]]*\\([0-9A-Fa-f]*/[0-9A-Fa-f]*\\).*|\\1|p" "$to.longest" | sed -n 1p)
    rm -f -- "$to.longest"
    [ -n "$parted" ] || return 1
    parted=$(printf '%08X%08X' 0x${parted%/*} 0x${parted#*/})
    if expr "x$parted" '<' "x$2" >/dev/null; then return 1; fi
}
# timeline OWN WANTED END: what a server that starts on this one has to follow. Where none was given up that is for the server to find.
# A number, and not a history that is held back: the server looks for the first free number by the histories that are there.
timeline() {
    newest=$1 left=''
    if [ -n "$2" ]; then
        newest=$(printf '%08X' "$2")
        [ "$newest" != "$1" ] || { echo current; return; }
        leads "$1" "$3" "$newest" || fail "timeline $2 does not lead on from this backup: take one of before timeline $2 began, or of it"
        echo "$2"
        return
    fi
    for next in "$wal"/history/*.history*; do
        [ -f "$next" ] || continue
        next=$(basename -- "$next")
        next=${next%%.*}
        expr "x$next" '>' "x$1" >/dev/null || continue
        if given_up "$next"; then
            left=yes
            echo "fetch-wal.sh: timeline ${next} was given up ($told says why): it is not followed" >&2
        elif expr "x$next" '>' "x$newest" >/dev/null; then
            newest=$next
        fi
    done
    if [ "$newest" != "$1" ] && ! leads "$1" "$3" "$newest"; then
        fail "the newest timeline, $((0x$newest)), does not lead on from this backup: a recovery has left what came after it. Take a backup of before that one began, or of it; or name another with --timeline ($((0x$1)) is the backup's own)"
    fi
    if [ -z "$left" ]; then echo latest; elif [ "$newest" = "$1" ]; then echo current; else echo $((0x$newest)); fi
}
[ -d "$wal" ] || fail "there is no folder $wal"
case $file in
    --timeline-*)
        timeline "${file#--timeline-}" "$look" "${7:-}"
        rmdir -- "$(dirname -- "$0")/wal-ends" 2>/dev/null || :
        exit 0 ;;
    *.history) from=$wal/history ;;
    *) from=$wal/$(printf '%.8s' "$file") ;;
esac
copy
if [ -n "$found" ]; then
    case $file in
        *.*) ;;
        *)
            if later "$from" "$file" && breaks_off "$to.longest"; then
                fail "$found breaks off, but $later is there: what was written between them is missing, look for another copy"
            fi ;;
    esac
    guard "$to.longest"
    mv -- "$to.longest" "$to" || fail "$to cannot be written"
    exit 0
fi
case $file in *.history|*.backup|*.partial) exit 1 ;; esac
# The data directory carries the segments of the backup itself.
if [ -f "pg_wal/$file" ]; then guard "pg_wal/$file"; exit 1; fi
if later "$from" "$file"; then fail "$file is missing, but $later is there: the archive has a hole"; fi
exit 1
