#!/bin/sh
# Restores the backup `@ID@`: @KIND@ of @SOURCE@, ended @ENDED@.
# It needs no program of its own: @NEEDS@. RESTORE.md says the same in words.
# Digests are verified first; nothing that exists is overwritten.
set -eu
umask 077

say() { printf '%s\n' "$*" >&2; }
die() { say "restore.sh: $*"; exit 1; }
usage() {
    say 'usage: sh restore.sh TARGET@USAGE@'
    say '  TARGET   a folder that does not exist yet; everything is restored into it'
@OPTIONS@    exit 2
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
target='' identity='' password='' wal='' timeline='' other=''
while [ $# -gt 0 ]; do
    case $1 in
        --identity|--password-file|--wal|--timeline)
            [ $# -ge 2 ] || usage
            case $1 in
                --identity) identity=$2 ;;
                --password-file) password=$2 ;;
                --wal) wal=$2 ;;
                --timeline) timeline=$2 ;;
            esac
            shift ;;
        --other-machine) other=yes ;;
        -*) usage ;;
        *) [ -z "$target" ] || usage; target=$1 ;;
    esac
    shift
done
[ -n "$target" ] || usage
@DEMANDS@
for program in tar dirname basename@PROGRAMS@; do
    command -v "$program" >/dev/null 2>&1 || die "the program '$program' is missing"
done
for file in "$identity" "$password"; do
    [ -z "$file" ] || [ -r "$file" ] || die "'$file' cannot be read"
done

name=$(basename -- "$target")
parent=$(CDPATH='' cd -- "$(dirname -- "$target")" && pwd -P) || die "the folder above '$target' does not exist"
target=${parent%/}/$name
stage=${parent%/}/.$name.restoring
[ ! -e "$target" ] || die "'$target' exists; name a folder that does not"
[ ! -e "$stage" ] || die "an earlier attempt left '$stage': look at it, remove it (rm -r '$stage'), and start again"
@WAY@
say "1. verifying the digests of $here"
if command -v sha256sum >/dev/null 2>&1; then sums='sha256sum'; else sums='shasum -a 256'; fi
(cd -- "$here" && $sums -c SHA256SUMS >&2) || die 'the backup is damaged; nothing was written; use another copy or another backup'

say "2. unpacking into $stage"
mkdir -- "$stage"
broken() { : >"$stage/.broken"; }
whole() { [ ! -e "$stage/.broken" ] || die "$1 could not be unpacked: a wrong key, or a full disk; what was written lies in $stage"; }
extract() { tar -xpf - -C "$1" && cat >/dev/null; }
place() { mv -- "$stage" "$target"; }

