#!/bin/sh
# Knocks with the time sequence of this moment.
#
# usage: knock.sh [-n] [-t UNIX-SECONDS] FILE [HOST]
#
#   -n   print the ports instead of knocking
#   -t   use this time instead of the present one
#
# FILE is a client's file that `portknock keygen` has written; HOST defaults to the server that the
# file names. Needs a POSIX shell whose printf is built in (dash, bash, busybox sh), date, od, tr, ls,
# openssl, and nc. No argument of a program ever contains any part of the key, so that no user finds
# it in the list of processes.
set -eu
export LC_ALL=C
# A variable that the environment contains would be passed on to programs.
unset key text inner

fail() {
    echo "knock.sh: $1" >&2
    exit "${2-1}"
}
usage() { fail "usage: knock.sh [-n] [-t UNIX-SECONDS] FILE [HOST]" 2; }

# Prints the bytes, given as hexadecimal numbers, each combined with $mask by exclusive or.
bytes() {
    for byte in "$@"; do
        byte=$((0x$byte ^ mask))
        # shellcheck disable=SC2059 # the format is the byte in octal
        printf "\\$((byte >> 6))$((byte >> 3 & 7))$((byte & 7))"
    done
}

# Prints the SHA-256 digest of standard input as hexadecimal numbers.
digest() { openssl dgst -sha256 -binary | od -An -v -tx1; }

# Prints HMAC-SHA256 (RFC 2104) of the output of the command, with the key $key.
hmac() {
    # shellcheck disable=SC2086 # $key holds separate bytes
    inner=$({ mask=0x36 && bytes $key $zeros && "$@"; } | digest)
    # shellcheck disable=SC2086
    { mask=0x5c && bytes $key $zeros && mask=0 && bytes $inner; } | digest
}
zeros="00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"

server_data() { printf 'portknock server 1\0%s' "$server"; }
window_data() {
    printf 'portknock sequence 1\0'
    for shift in 56 48 40 32 24 16 8 0; do
        byte=$((window >> shift & 255))
        # shellcheck disable=SC2059
        printf "\\$((byte >> 6))$((byte >> 3 & 7))$((byte & 7))"
    done
}

# Reads the settings of the client's file.
read_file() {
    [ -r "$1" ] || fail "cannot read $1"
    case $(ls -lLd -- "$1") in
        -???------*) ;;
        *) fail "refused to use $1: other users can read or write it; run chmod 600 $1" ;;
    esac
    text='' server='' steps=5 low=1024 high=65535 protocols=tcp step=30
    while IFS=' 	=' read -r setting value || [ -n "$setting" ]; do
        case $setting in
            key) text=$value ;;
            server) server=$value ;;
            time_steps) steps=$value ;;
            time_ports) low=${value%-*} high=${value#*-} ;;
            time_protocols) protocols=$value ;;
            time_step) step=$value ;;
        esac
    done <"$1"
    for number in "$steps" "$low" "$high" "$step"; do
        case $number in
            '' | 0* | *[!0-9]*) fail "$1: the number of a time setting is invalid" ;;
        esac
    done
    [ "$high" -le 65535 ] && [ "$steps" -le 8 ] && [ $((high - low + 1)) -ge "$steps" ] ||
        fail "$1: the steps or the ports of the sequence are out of range"
}

# Sets $key to the bytes of the key, as hexadecimal numbers.
decode_key() {
    case $text in
        pk1:*) ;;
        *) fail "$1 has no key that begins with pk1:" ;;
    esac
    # shellcheck disable=SC2046 # od prints separate bytes
    set -- "$1" $(printf '%s==' "${text#pk1:}" | tr '_-' '/+' | openssl base64 -d -A 2>/dev/null | od -An -v -tx1)
    file=$1
    shift
    [ $# -eq 34 ] || fail "the key in $file contains a typing error"
    key=
    while [ $# -gt 2 ]; do
        key="$key $1"
        shift
    done
    # shellcheck disable=SC2086
    case $(mask=0 && bytes $key | digest) in
        " $1 $2 "*) ;;
        *) fail "the key in $file contains a typing error: its checksum does not match" ;;
    esac
}

# Sets $sequence to the steps of the window: as in `7000 8000:udp`.
find_sequence() {
    [ -z "$server" ] || key=$(hmac server_data)
    window=$((time / step)) size=$((high - low + 1)) ports=' ' sequence=''
    # shellcheck disable=SC2046
    set -- $(hmac window_data)
    while [ "$steps" -gt 0 ]; do
        number=$((0x$1$2$3$4))
        shift 4
        offset=$(((number & 0x7fffffff) % size))
        # A port that occurs a second time becomes the next one that is free.
        while :; do
            port=$((low + offset))
            case $ports in
                *" $port "*) offset=$(((offset + 1) % size)) ;;
                *) break ;;
            esac
        done
        ports="$ports$port "
        if [ "$protocols" = udp ] || { [ "$protocols" = both ] && [ $((number >> 31)) -eq 1 ]; }; then
            port=$port:udp
        fi
        sequence="$sequence${sequence:+ }$port"
        steps=$((steps - 1))
    done
}

# Sends one knock. nc waits for an answer for at most a second.
knock() {
    case $2 in
        *:udp) printf . | nc -u -w 1 "$1" "${2%:udp}" ;;
        *) nc -w 1 "$1" "$2" </dev/null ;;
    esac >/dev/null 2>&1 || : # that a port refuses the connection is no error
}

[ "$(command -v printf)" = printf ] || fail "this shell has no printf of its own, which keeps the key out of arguments"
print='' time=$(date +%s)
while getopts nt: option; do
    case $option in
        n) print=1 ;;
        t) time=$OPTARG ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 1 ] || [ $# -eq 2 ] || usage
case $time in
    '' | *[!0-9]*) usage ;;
esac
read_file "$1"
decode_key "$1"
find_sequence
if [ -n "$print" ]; then
    echo "$sequence"
    exit
fi
host=${2-$server}
[ -n "$host" ] || fail "$1 names no server: give the host to knock at" 2
for port in $sequence; do
    knock "$host" "$port"
done
