# outside PG_WALDUMP FOLDER FIRST [LAST]: names the folders in which a server here has a tablespace, and in which the replay
# of these segments would make one: CREATE TABLESPACE is replayed with the path that production gave it.
outside() {
    "$1" -r Tablespace -p "$2" "$3" ${4:+"$4"} 2>/dev/null |
        sed -n 's/^.*desc: CREATE \([0-9][0-9]*\) "\(.*\)".*$/\1 \2/p' |
        while read -r oid path; do
            [ "$(readlink "pg_tblspc/$oid" 2>/dev/null)" != "$path" ] || continue
            for used in "$path"/PG_*; do
                if [ -e "$used" ]; then printf '%s\n' "$path"; break; fi
            done
        done
}
