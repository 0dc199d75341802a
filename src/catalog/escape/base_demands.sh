if [ -z "$wal" ] && [ -d "$here/@WAL_FOLDER@" ]; then wal=$here/@WAL_FOLDER@; fi
waldump='' look=''
for one in "$(command -v pg_waldump 2>/dev/null || :)" /usr/lib/postgresql/@MAJOR@/bin/pg_waldump /usr/pgsql-@MAJOR@/bin/pg_waldump; do
    case $("$one" --version 2>/dev/null || :) in *') @MAJOR@'[!0-9]*) waldump=$one; break ;; esac
done
if [ -z "$other" ]; then
    if [ -n "$waldump" ]; then look=yes; fi
    if [ -n "$wal" ] && [ -z "$waldump" ]; then
        say 'restore.sh: replay makes tablespaces that are younger than the backup where production has them: two servers on the same files.'
        say '   pg_waldump of PostgreSQL @MAJOR@ would see them beforehand, and it is not in PATH.'
        die 'put it into PATH, or say --other-machine where no other server uses those folders; nothing was written'
    fi
fi
@TABLESPACE@