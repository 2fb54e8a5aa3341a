#!/usr/bin/env bash
# `0 */2 * * *` names even hours. On the night when the clock leaps from 02:00 to 03:00, cron-parser 5.10.6, cron 4.4.0 and
# cronosjs 1.7.1 (npm) and croniter 7.0.0 (PyPI) fire at 03:00, as they do for a fixed time that the clock leaps over, and at
# 04:00 again, an hour later. And on the night when the clock is set back, cron 4.4.0 fires at the second 01:00, which no
# even hour has anything to do with. croner 11.0.1 (npm) fires at even hours alone.
#
# Seen: the hours below.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund \
  croner@11.0.1 cronosjs@1.7.1 cron-parser@5.10.6 cron@4.4.0 >/dev/null || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check croniter==7.0.0 || exit 2
cat > probe.mjs <<'JS'
import { Cron } from 'croner';
import { CronTime } from 'cron';
import { CronExpressionParser } from 'cron-parser';
import { CronosExpression } from 'cronosjs';

const PATTERN = '0 */2 * * *';
const timezone = 'America/New_York';
const NIGHTS = ['2026-03-08T00:30:00-05:00', '2026-11-01T00:30:00-04:00'];
const COUNT = 3;

function byCronParser(start) {
  const times = CronExpressionParser.parse(PATTERN, { currentDate: start, tz: timezone });
  return Array.from({ length: COUNT }, () => times.next().toDate());
}

function byCron(start) {
  const time = new CronTime(PATTERN, timezone);
  const times = [];
  for (let from = start; times.length < COUNT; times.push(from)) from = time.getNextDateFrom(from, timezone).toJSDate();
  return times;
}

const clients = {
  croner: (start) => new Cron(PATTERN, { timezone }).nextRuns(COUNT, start),
  cronosjs: (start) => CronosExpression.parse(PATTERN, { timezone }).nextNDates(start, COUNT),
  'cron-parser': byCronParser,
  cron: byCron,
};
const hour = (time) => time.toLocaleTimeString('en-GB', { timeZone: timezone, hour: '2-digit', minute: '2-digit' });
for (const [name, times] of Object.entries(clients)) {
  console.log(`${name}: ${NIGHTS.map((night) => times(new Date(night)).map(hour).join(' ')).join(' | ')}`);
}
JS
cat > probe.py <<'PYTHON'
from datetime import datetime
from zoneinfo import ZoneInfo

from croniter import croniter

nights = [datetime(2026, *day, 0, 30, tzinfo=ZoneInfo("America/New_York")) for day in ((3, 8), (11, 1))]
iterators = [croniter("0 */2 * * *", night) for night in nights]
print("croniter:", " | ".join(" ".join(i.get_next(datetime).strftime("%H:%M") for _ in range(3)) for i in iterators))
PYTHON
{ node probe.mjs && v/bin/python probe.py; } > seen || exit 1
echo "times of 0 */2 * * * in the night of the leap | in the night when the clock is set back:"
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
croner: 04:00 06:00 08:00 | 02:00 04:00 06:00
cronosjs: 03:00 04:00 06:00 | 02:00 04:00 06:00
cron-parser: 03:00 04:00 06:00 | 02:00 04:00 06:00
cron: 03:00 04:00 06:00 | 01:00 02:00 04:00
croniter: 03:00 04:00 06:00 | 02:00 04:00 06:00
SEEN
