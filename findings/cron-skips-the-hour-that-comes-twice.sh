#!/usr/bin/env bash
# `*/30 * * * *` fires each half hour. On the night when the clock is set back from 02:00 to 01:00, cronosjs 1.7.1 (npm) and
# cron-converter 2.0.2 (PyPI) leave the repeated hour out: an hour and a half passes between two times. croner 11.0.1,
# cron-parser 5.10.6 and cron 4.4.0 (npm) and croniter 7.0.0 (PyPI) go on each half hour.
#
# Seen: the longest pause is 90 minutes for the first two, 30 for the others.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund \
  croner@11.0.1 cronosjs@1.7.1 cron-parser@5.10.6 cron@4.4.0 >/dev/null || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check cron-converter==2.0.2 croniter==7.0.0 || exit 2
cat > probe.mjs <<'JS'
import { Cron } from 'croner';
import { CronTime } from 'cron';
import { CronExpressionParser } from 'cron-parser';
import { CronosExpression } from 'cronosjs';

const PATTERN = '*/30 * * * *';
const timezone = 'America/New_York';
const start = new Date('2026-11-01T00:15:00-04:00');
const COUNT = 8;

function byCronParser() {
  const times = CronExpressionParser.parse(PATTERN, { currentDate: start, tz: timezone });
  return Array.from({ length: COUNT }, () => times.next().toDate());
}

function byCron() {
  const time = new CronTime(PATTERN, timezone);
  const times = [];
  for (let from = start; times.length < COUNT; times.push(from)) from = time.getNextDateFrom(from, timezone).toJSDate();
  return times;
}

const clients = {
  croner: () => new Cron(PATTERN, { timezone }).nextRuns(COUNT, start),
  cronosjs: () => CronosExpression.parse(PATTERN, { timezone }).nextNDates(start, COUNT),
  'cron-parser': byCronParser,
  cron: byCron,
};
for (const [name, times] of Object.entries(clients)) {
  const minutes = times().map((time) => time / 60_000);
  console.log(`${name}: ${Math.max(...minutes.slice(1).map((time, at) => time - minutes[at]))}`);
}
JS
cat > probe.py <<'PYTHON'
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

from cron_converter import Cron
from croniter import croniter

start = datetime(2026, 11, 1, 0, 15, tzinfo=ZoneInfo("America/New_York"))
schedule, iterator = Cron("*/30 * * * *").schedule(start), croniter("*/30 * * * *", start)
for name, following in ("cron-converter", schedule.next), ("croniter", lambda: iterator.get_next(datetime)):
    times = [following().timestamp() for _ in range(8)]
    print(f"{name}: {max(b - a for a, b in pairwise(times)) / 60:.0f}")
PYTHON
{ node probe.mjs && v/bin/python probe.py; } > seen || exit 1
echo "longest pause of */30, in minutes:"
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
croner: 30
cronosjs: 90
cron-parser: 30
cron: 30
cron-converter: 90
croniter: 30
SEEN
