#!/usr/bin/env bash
# `0 0 * * 1` is midnight of Mondays: crontab(5) counts Sunday as 0 and 7. APScheduler 3.11.3 (PyPI) counts Monday as 0, also
# in CronTrigger.from_crontab, and fires on Tuesdays; the crate cron 0.17.0 counts Sunday as 1, and fires on Sundays. Names
# of days are understood alike. croniter 7.0.0 fires on Mondays.
#
# And where both days are restricted, as in `0 0 13 * 5`, crontab(5) means each 13th and each Friday. The same two take the
# days that are both, of their own counting: a 13th that is a Saturday, and a 13th that is a Thursday.
#
# Seen: `Mon`, `Tue`, `Sun` for the first pattern, `Fri 6`, `Sat 13`, `Thu 13` for the second.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check croniter==7.0.0 APScheduler==3.11.3 || exit 2
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
chrono = { version = "0.4", default-features = false }
cron = { version = "=0.17.0", default-features = false }
TOML
cat > src/main.rs <<'RUST'
use chrono::{TimeZone, Utc};

fn main() {
    let start = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
    for pattern in ["0 0 * * 1", "0 0 * * Mon", "0 0 13 * 5"] {
        let schedule: cron::Schedule = format!("0 {pattern}").parse().expect("a pattern");
        println!("{}", schedule.after(&start).next().expect("a time").format("%a %-d"));
    }
}
RUST
cargo build --quiet 2>build.log || { cat build.log; exit 2; }
cat > probe.py <<'PYTHON'
from datetime import datetime, timezone

from apscheduler.triggers.cron import CronTrigger
from croniter import croniter

start = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
times = {
    "croniter": lambda pattern: croniter(pattern, start).get_next(datetime),
    "apscheduler": lambda pattern: CronTrigger.from_crontab(pattern, timezone=timezone.utc).get_next_fire_time(None, start),
}
for name, first in times.items():
    print(name, *(first(pattern).strftime("%a %-d") for pattern in ("0 0 * * 1", "0 0 * * Mon", "0 0 13 * 5")), sep=", ")
PYTHON
v/bin/python probe.py > seen
echo "cron (crate), $(target/debug/probe | paste -sd, | sed 's/,/, /g')" >> seen
echo "first time behind 2026-03-01 12:00 of: 0 0 * * 1, 0 0 * * Mon, 0 0 13 * 5"
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
croniter, Mon 2, Mon 2, Fri 6
apscheduler, Tue 3, Mon 2, Sat 13
cron (crate), Sun 8, Mon 2, Thu 13
SEEN
