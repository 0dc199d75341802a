# restore_command: sh fetch-wal.sh FOLDER AGE-IDENTITY %f %p
# 0: copied. 1: surely absent, so recovery ends here. 126: anything else, so recovery stops instead of opening too early.
wal=$1 identity=$2 file=$3 to=$4
stop() { echo "fetch-wal.sh: $*" >&2; exit 126; }
[ -d "$wal" ] || stop "$wal is not there"
case $file in
    *.history) from=$wal/history ;;
    *) from=$wal/$(printf '%.8s' "$file") ;;
esac
if [ -f "$from/$file" ]; then
    cp -- "$from/$file" "$to.copying" && mv -- "$to.copying" "$to" || stop "$file cannot be copied"
    exit 0
fi
case $file in *.history|*.backup|*.partial) exit 1 ;; esac
for packed in "$from/$file".*; do
    case $packed in
        *.partial|*.partial.*|*.backup|*'*') continue ;;
    esac
    inner=$packed
    case $packed in
        *.age) inner=${packed%.age}; open() { age -d -i "$identity" "$packed"; } ;;
        *.enc|*.gpg) stop "decrypt $packed first: its name does not say how" ;;
        *) open() { cat -- "$packed"; } ;;
    esac
    case $inner in
        *.zst) unpack() { zstd -q -d -c; } ;;
        *.gz) unpack() { gzip -d -c; } ;;
        *.lz4) unpack() { lz4 -q -d -c; } ;;
        *) unpack() { cat; } ;;
    esac
    # A pipeline ends as its last program does: the first one writes to a file, so that its failure is seen.
    open >"$to.opened" && unpack <"$to.opened" >"$to.copying" || {
        rm -f -- "$to.opened" "$to.copying"
        stop "$packed cannot be unpacked"
    }
    rm -f -- "$to.opened"
    mv -- "$to.copying" "$to" || stop "$file cannot be placed"
    exit 0
done
# The data directory carries the segments of the backup itself.
[ ! -f "pg_wal/$file" ] || exit 1
for later in "$from"/*; do
    later=$(basename -- "$later")
    later=$(printf '%.24s' "$later")
    case $later in *.*|'*'|"$file") continue ;; esac
    if expr "x$later" '>' "x$file" >/dev/null; then
        stop "$file is missing, but $later is there: the archive has a hole"
    fi
done
exit 1
