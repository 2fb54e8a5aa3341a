#!/bin/sh
# Instructions per operation of each case of benches/parts, counted by callgrind: the same figure on every run, whatever
# else the machine is doing. Each case is repeated a few times, and three times as often: the difference is what its
# work takes, without what prepares it.
#
# benches/instructions.sh [PART OF A NAME]      needs: valgrind, awk
set -eu
cd "$(dirname "$0")/.."

binary=$(cargo bench --bench parts --no-run 2>&1 | sed -n 's/.*Executable .*(\(.*\))$/\1/p')
[ -x "$binary" ] || { echo "benches/parts does not build" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

count() { # case, repetitions
    # Hash seeds differ from run to run, and with them how often a table looks twice; addresses need not.
    setarch -R valgrind --tool=callgrind --callgrind-out-file="$scratch/out" "$binary" --repeat "$1" "$2" \
        >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
    sed -n 's/.*Collected : \([0-9]*\)$/\1/p' "$scratch/log"
}

printf '%-20s %14s\n' case 'instructions'
"$binary" --list-cases | while read -r name operations; do
    case "$name" in *"${1:-}"*) ;; *) continue ;; esac
    few=4
    [ "$operations" -lt 1000 ] || few=2
    case "$name" in plan/10000 | plan/chain*) few=2 ;; esac
    low=$(count "$name" "$few")
    high=$(count "$name" $((3 * few)))
    awk -v name="$name" -v work=$((high - low)) -v times=$((2 * few * operations)) \
        'BEGIN { printf "%-20s %14.0f\n", name, work / times }'
done
