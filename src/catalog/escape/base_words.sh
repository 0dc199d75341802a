say "5. ready: $target/data (PostgreSQL @VERSION@, system @SYSTEM_ID@)"
say '   NEVER remove backup_label: without it the server starts and is silently corrupt.'
say '   The data must belong to the user that runs the server: chown -R postgres: TARGET'
say '   Where postgresql.conf lies outside the data directory, bring your own or an empty one with pg_hba.conf.'
say "   Start it beside the old server, on another port: pg_ctl -D $target/data -o '-p 5499' -w start"
say '   It archives nothing until archive_mode is set again in postgresql.auto.conf: do that when it is the server you keep.'
say '   Keep the old data directory until you have looked at the new one.'
