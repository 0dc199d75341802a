place
say "3. unpacked: $target"
for dump in "$target"/*; do
    case $dump in
        */globals.sql|*/globals*.sql)
            say "   roles and tablespaces first, as a superuser: psql -X -d postgres -f '$dump'" ;;
        *.sql)
            say "   createdb NEW && psql -X -1 -v ON_ERROR_STOP=1 -d NEW -f '$dump'" ;;
        *)
            if command -v pg_restore >/dev/null 2>&1; then
                pg_restore --list "$dump" >/dev/null || die "pg_restore cannot read '$dump'"
                say "   pg_restore can read '$dump'"
            fi
            say "   createdb NEW && pg_restore --exit-on-error -d NEW '$dump'" ;;
    esac
done
say '   Restore into a new database and look at it before you replace anything.'
