# restore_command: sh fetch-wal.sh FOLDER %f %p [IDENTITY]
# 0: copied. 1: surely absent, so recovery ends here. 126: anything else, so recovery stops instead of opening too early.
wal=$1 file=$2 to=$3 identity=${4:-}
fail() { echo "fetch-wal.sh: $*" >&2; rm -f -- "$to.opened" "$to.copying"; exit 126; }
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
    mv -- "$to.copying" "$to" || fail "$to cannot be written"
    exit 0
done
case $file in *.history|*.backup|*.partial) exit 1 ;; esac
# The data directory carries the segments of the backup itself.
[ ! -f "pg_wal/$file" ] || exit 1
for later in "$from"/*; do
    later=$(basename -- "$later")
    case $later in *.partial*|*.backup|'*') continue ;; esac
    if expr "x${later%%.*}" '>' "x$file" >/dev/null; then
        fail "$file is missing, but $later is there: the archive has a hole"
    fi
done
exit 1
