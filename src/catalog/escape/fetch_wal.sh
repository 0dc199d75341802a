# restore_command: sh fetch-wal.sh FOLDER %f %p [IDENTITY] [PG_WALDUMP]
# 0: copied. 1: surely absent, so recovery ends here. 126: anything else, so recovery stops instead of opening too early.
wal=$1 file=$2 to=$3 identity=${4:-} waldump=${5:-}
fail() { echo "fetch-wal.sh: $*" >&2; rm -f -- "$to.opened" "$to.copying"; exit 126; }
@TABLESPACE@# guard SEGMENT: ends the recovery before a segment is replayed that makes a tablespace where another server has one. A record
# may begin in the segment before, which is kept for that.
guard() {
    case $file in *.*) return 0 ;; esac
    [ -n "$waldump" ] || return 0
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
    used=$({ [ -z "$before" ] || outside "$waldump" "$seen" "$before" "$file"; outside "$waldump" "$seen" "$file"; } | head -n 1)
    [ -z "$before" ] || rm -f -- "$seen/$before"
    [ -z "$used" ] || fail "$file makes a tablespace in $used, where a server has one already: replay would work in its files. Restore on a machine of its own with --other-machine, or, where that server is gone, move the folder away and put an empty one there"
}
[ -d "$wal" ] || fail "there is no folder $wal"
case $file in
    *.history) from=$wal/history ;;
    *) from=$wal/$(printf '%.8s' "$file") ;;
esac
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
            age -d -i "$identity" -o "$opened" "$stored" || fail "$stored cannot be decrypted"
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
    guard "$to.copying"
    mv -- "$to.copying" "$to" || fail "$to cannot be written"
    exit 0
done
case $file in *.history|*.backup|*.partial) exit 1 ;; esac
# The data directory carries the segments of the backup itself.
if [ -f "pg_wal/$file" ]; then guard "pg_wal/$file"; exit 1; fi
for later in "$from"/*; do
    later=$(basename -- "$later")
    case $later in *.partial*|*.backup|'*') continue ;; esac
    if expr "x${later%%.*}" '>' "x$file" >/dev/null; then
        fail "$file is missing, but $later is there: the archive has a hole"
    fi
done
exit 1
