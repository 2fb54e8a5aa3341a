#!/usr/bin/env bash
# mawk 1.3.4-20200120, which is `awk` on Debian and Ubuntu, does not look at a line of a pipe before its buffer is full (4 KiB)
# or the pipe has ended: `curl -N ... | awk '{ print; fflush() }'` shows nothing of a stream of events for a long time, however
# the output is flushed. With -W interactive it looks at each line as it comes. GNU awk and busybox do so by themselves.
#
# Seen: `mawk: nothing`, and `1` for `mawk -W interactive` and busybox awk (1.35.0), a second after a line was written.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
command -v mawk >/dev/null && command -v busybox >/dev/null || { echo "needs Debian's packages mawk and busybox"; exit 2; }
# What each has printed of the line while the pipe is still open; it is waited for up to the given number of seconds.
shown() {
  local seconds=$1 name=$2
  shift 2
  mkfifo pipe
  "$@" '{ print $2; fflush() }' < pipe > out &
  exec 4> pipe
  rm pipe
  echo 'data: 1' >&4
  for _ in $(seq $((seconds * 10))); do
    [ ! -s out ] || break
    sleep 0.1
  done
  echo "$name: $([ -s out ] && cat out || echo nothing)"
  exec 4>&-
  wait $!
  echo "$name, at the end of the pipe: $(cat out)"
}
mawk -W version 2>/dev/null | sed -n 1p
{ shown 3 mawk mawk; shown 30 'mawk -W interactive' mawk -W interactive; shown 30 'busybox awk' busybox awk; } > seen
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
mawk: nothing
mawk, at the end of the pipe: 1
mawk -W interactive: 1
mawk -W interactive, at the end of the pipe: 1
busybox awk: 1
busybox awk, at the end of the pipe: 1
SEEN
