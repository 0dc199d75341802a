if [ -n "$wal" ]; then
    wal=$(CDPATH='' cd -- "$wal" && pwd -P) || die "the WAL folder cannot be entered"
    if [ -n "$identity" ]; then
        identity=$(CDPATH='' cd -- "$(dirname -- "$identity")" && pwd -P)/$(basename -- "$identity")
    fi
    case $wal$target$identity$waldump in *[\'\"\\%\$\`]*) die "a path with quotes, backslashes, dollars or % cannot stand in restore_command: $wal, $target, $identity, $waldump" ;; esac
    case $timeline in 0*|*[!0-9]*) die "--timeline takes a number: '$timeline' is none" ;; esac
    say '0. looking for the timeline that leads to the newest state'
    # In a folder of its own, so that an attempt that ends here leaves nothing.
    mkdir -- "$stage"
    fetcher >"$stage/fetch-wal.sh"
    follow=$(sh "$stage/fetch-wal.sh" "$wal" --timeline-@TIMELINE@ "$stage/wal-copy" "$identity" "$waldump" "$timeline" @END@) || follow=''
    rm -r -- "$stage"
    [ -n "$follow" ] || die 'which timeline is to be followed cannot be told; nothing was written. --timeline NUMBER says it'
elif [ -n "$timeline" ]; then
    die "--timeline goes with --wal FOLDER"
fi
