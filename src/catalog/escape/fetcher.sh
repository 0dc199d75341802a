# What is written as fetch-wal.sh.
fetcher() {
    cat <<'FETCH'
@FETCH@FETCH
}
