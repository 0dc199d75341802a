say "5. $target/data holds only what changed since the backup @PARENT@: alone it is no data directory, no server starts from it."
say '   Restore @PARENT@ with its own restore.sh into another folder, and if that one is an increment, too, what it rests on.'
say '   Then put all together with the program of PostgreSQL @VERSION@, the full backup first, this one last:'
say "       pg_combinebackup -o /a/new/data@MAPPINGS@ /full/data ... $target/data"
@LINKED@say '   Its output is the data directory; chown it to the user that runs the server. Keep these folders until it has replayed.'
say '   NEVER remove its backup_label: without it the server starts and is silently corrupt.'
if [ -n "$other" ]; then
    say '   START IT ONLY WHERE NO OTHER SERVER USES THE FOLDERS OF ITS TABLESPACES: those made after the backup come back at the paths they had.'
fi
say "   Start it on another port: pg_ctl -D /a/new/data -o '-p 5499 -c external_pid_file= -c max_logical_replication_workers=0' -w -t 86400 start"
if [ -n "$wal" ]; then
    say '   pg_ctl returns while it still replays, and until then it only reads. It is ready when this says f:'
    say "       psql -p 5499 -d postgres -XAtc 'SELECT pg_is_in_recovery()'"
    [ -n "$other" ] || say '   It stops itself, with words in its log, before a tablespace made after the backup reaches a folder that a server uses here.'
fi
say '   It archives nothing until archive_mode is set again in postgresql.auto.conf: do that when it is the server you keep.'
say '   Keep the old data directory until you have looked at the new one.'
