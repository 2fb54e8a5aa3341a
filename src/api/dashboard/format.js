/** Formats numbers, times and states. Pure. */

/** Milliseconds as people say them: `320 ms`, `4.2 s`, `1 min 05 s`, `2 h 07 min`. */
export function duration(ms) {
  if (ms === undefined || ms === null || Number.isNaN(ms)) return '';
  const value = Math.max(0, ms);
  if (value < 1_000) return `${Math.round(value)} ms`;
  if (value < 9_950) return `${(value / 1_000).toFixed(1)} s`;
  const seconds = Math.round(value / 1_000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${two(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${two(minutes % 60)} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The same for what ticks: no jumping between units below a second. */
export const ticking = (ms) => ms < 9_950 ? `${(Math.max(0, ms) / 1_000).toFixed(1)} s` : duration(ms);

/** What is left, said as roughly as it is known. */
export function remaining(ms) {
  if (ms < 1_000) return 'almost done';
  if (ms < 60_000) return `about ${Math.ceil(ms / 1_000)} s left`;
  return ms < 3_600_000 ? `about ${Math.ceil(ms / 60_000)} min left` : `about ${(ms / 3_600_000).toFixed(1)} h left`;
}

/** `just now`, `12 s ago`, `3 min ago`, `5 h ago`, `2 d ago`. */
export function ago(ms) {
  const seconds = Math.floor(Math.max(0, ms) / 1_000);
  if (seconds < 3) return 'just now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ago`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3_600)} h ago` : `${Math.floor(seconds / 86_400)} d ago`;
}

/** `812 bytes`, `14.2 KiB`, `50.0 MiB`. */
export function bytes(count) {
  if (count < 1_024) return `${count} byte${count === 1 ? '' : 's'}`;
  const units = ['KiB', 'MiB', 'GiB'];
  let value = count / 1_024;
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}

/** A moment as a clock shows it here. */
export const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });

/** A moment: its day only where that is not today's. */
export function moment(time, now) {
  const isToday = new Date(time).toDateString() === new Date(now).toDateString();
  return isToday ? clock(time) : `${new Date(time).toLocaleDateString([], { day: 'numeric', month: 'short', year: 'numeric' })}, ${clock(time)}`;
}

/** The word for a state. */
export const word = (status) => WORDS[status] ?? status;

const WORDS = { retrying: 'waiting to retry', waiting: 'waiting for a decision' };

/** When steps run that are not in the levels: behind them, by how the run ends. */
export const HANDLERS = { onSuccess: 'On success', onFailure: 'On failure', onCancel: 'When cancelled', onExit: 'At the end' };

/** `1,204 tokens (1,000 in, 204 out), cost 0.012, some-model`. */
export function usageText({ inputTokens, outputTokens, totalTokens, cost, model }) {
  const number = (value) => value.toLocaleString('en');
  const total = totalTokens ?? (inputTokens ?? 0) + (outputTokens ?? 0);
  const parts = [inputTokens !== undefined && `${number(inputTokens)} in`, outputTokens !== undefined && `${number(outputTokens)} out`].filter(Boolean);
  return [`${count(total, 'token')}${parts.length > 0 ? ` (${parts.join(', ')})` : ''}`, costText(cost), model].filter(Boolean).join(', ');
}

/** Of a small cost the first digits that say something; a currency nobody has told. */
export const costText = (cost) => cost === undefined ? '' : `cost ${Number(cost.toPrecision(cost < 1 ? 2 : 6)).toLocaleString('en', { maximumFractionDigits: 6 })}`;

/** `budget 200,000 tokens, cost 2.5`; nothing where a plan has none. */
export function budgetText({ tokens, cost } = {}) {
  const parts = [tokens !== undefined && count(tokens, 'token'), cost !== undefined && costText(cost)].filter(Boolean);
  return parts.length > 0 ? `budget ${parts.join(', ')}` : '';
}

/** `approved by ann at 12:03:04`. */
export function decisionText({ decision, by, at, expired }) {
  const word = { approve: 'approved', reject: 'rejected' }[decision] ?? decision;
  return `${word}${by ? ` by ${by}` : ''}${at ? ` at ${clock(at)}` : ''}${expired ? ', because nobody decided in time' : ''}`;
}

/** `1 step`, `2 steps`. */
export const count = (n, noun) => `${n.toLocaleString('en')} ${noun}${n === 1 ? '' : 's'}`;

const two = (n) => String(n).padStart(2, '0');
