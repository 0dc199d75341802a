# restore_command: sh fetch-wal.sh FOLDER %f %p
# 0: copied. 1: surely absent, so recovery ends here. 126: anything else, so recovery stops instead of opening too early.
wal=$1 file=$2 to=$3
[ -d "$wal" ] || exit 126
case $file in
    *.history) from=$wal/history ;;
    *) from=$wal/$(printf '%.8s' "$file") ;;
esac
if [ -f "$from/$file" ]; then
    cp -- "$from/$file" "$to.copying" && mv -- "$to.copying" "$to" || exit 126
    exit 0
fi
case $file in *.history|*.backup|*.partial) exit 1 ;; esac
for packed in "$from/$file".*; do
    case $packed in
        *.partial|*.backup|*'*') ;;
        *) echo "fetch-wal.sh: unpack $packed first: only plain segments are copied" >&2; exit 126 ;;
    esac
done
# The data directory carries the segments of the backup itself.
[ ! -f "pg_wal/$file" ] || exit 1
for later in "$from"/*; do
    later=$(basename -- "$later")
    case $later in *.*|'*') continue ;; esac
    if expr "x$later" '>' "x$file" >/dev/null; then
        echo "fetch-wal.sh: $file is missing, but $later is there: the archive has a hole" >&2
        exit 126
    fi
done
exit 1
