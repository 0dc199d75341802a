if [ -z "$wal" ] && [ -d "$here/@WAL_FOLDER@" ]; then wal=$here/@WAL_FOLDER@; fi
# program NAME: where the one of PostgreSQL @MAJOR@ lies, if it is here.
program() {
    for one in "$(command -v "$1" 2>/dev/null || :)" "/usr/lib/postgresql/@MAJOR@/bin/$1" "/usr/pgsql-@MAJOR@/bin/$1"; do
        case $("$one" --version 2>/dev/null || :) in *') @MAJOR@'[!0-9]*) printf '%s\n' "$one"; return ;; esac
    done
}
waldump=$(program pg_waldump) look=''
if [ -z "$other" ]; then
    if [ -n "$waldump" ]; then look=yes; fi
    if [ -n "$wal" ] && [ -z "$waldump" ]; then
        say 'restore.sh: replay makes tablespaces that are younger than the backup where production has them: two servers on the same files.'
        say '   pg_waldump of PostgreSQL @MAJOR@ would see them beforehand, and it is not in PATH.'
        die 'put it into PATH, or say --other-machine where no other server uses those folders; nothing was written'
    fi
fi
@TABLESPACE@