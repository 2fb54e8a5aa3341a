// The pure parts of the page, without a browser: node --test
import assert from 'node:assert/strict';
import { register } from 'node:module';
import { test } from 'node:test';

// As the server serves them: modules, and the client at the root, whose parts are beside the page's.
const hooks = `export const resolve = async (name, context, next) => {
  const place = name === '/stepcast.js' ? ${JSON.stringify(new URL('../../src/api/dashboard/stepcast.js', import.meta.url).href)} : name.replace('./dashboard/', './');
  const found = await next(place, context);
  return found.url.includes('/src/api/dashboard/') ? { ...found, format: 'module' } : found;
};`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
const part = (name) => import(new URL(`../../src/api/dashboard/${name}.js`, import.meta.url));
const { CallRefused, changePlan, decide, emptyState, fold, follow, plain, retry, runOfView } = await part('stepcast');
const { columns, lines, neighbour, rows, visible } = await part('layout');
const { criticalPath, expectations, remaining } = await part('estimate');
const { Rows, Screen, fromWholeCharacter } = await part('lines');
const { locate, lineOf, offsetOf } = await part('locate');
const json = await part('json');
const { chosen, glance, ordered } = await part('glance');
const { fieldOf, formPath, initial, read } = await part('schema');
const format = await part('format');

const at = (second) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString();
let seq = 0;
const message = (type, second, payload = {}) => ({ type, projectId: 'p', seq: ++seq, payload: { runId: 'r', timestamp: at(second), ...payload } });
const progress = (completed, failed = 0, skipped = 0, cancelled = 0) => ({ completed, failed, skipped, cancelled, total: 3, percent: 0 });
const moved = (stepId, status, second, more) => message('workflow_progress', second, { stepId, stepTitle: stepId.toUpperCase(), level: 0, status, attempt: 1, progress: progress(0), ...more });
const started = () => message('workflow_started', 0, { planName: 'n', levels: [['a', 'b'], ['c']], stepCount: 3, totalLevels: 2, estimatedDuration: 0 });

/** Freezes all of it, so that a fold that changes what it is given throws. */
function frozen(value) {
  if (value && typeof value === 'object') {
    Object.freeze(value);
    for (const inner of value instanceof Map ? value.values() : Object.values(value)) frozen(inner);
  }
  return value;
}
const folded = (messages, state = emptyState('p')) => messages.reduce((before, one) => fold(frozen(before), frozen(one)), state);

test('a run is the fold of its messages', () => {
  seq = 0;
  const state = folded([
    started(),
    message('workflow_level_started', 0, { level: 0, totalLevels: 2, steps: ['a', 'b'] }),
    moved('a', 'running', 1),
    message('workflow_step_output', 2, { stepId: 'a', attempt: 1, stream: 'stdout', chunk: 'one\ntwo\n' }),
    moved('a', 'retrying', 3, { error: 'e', nextRetryAt: at(5) }),
    moved('a', 'running', 5, { attempt: 2 }),
    moved('a', 'completed', 7, { attempt: 2, output: 1, duration: 6000, progress: progress(1) }),
    moved('b', 'running', 1),
    moved('b', 'failed', 8, { error: 'no', duration: 7000, progress: progress(1, 1) }),
    message('workflow_level_completed', 8, { level: 0 }),
    moved('c', 'skipped', 8, { attempt: 0, reason: 'b failed', progress: progress(1, 1, 1) }),
    message('workflow_failed', 9, { error: 'step b failed', reason: 'step_failed' }),
  ]);
  const run = state.runs.get('r');
  assert.equal(state.seq, 12);
  assert.deepEqual([run.status, run.error, run.finishedAt, run.currentLevel, run.levelOpen], ['failed', 'step b failed', at(9), 0, false]);
  assert.deepEqual(run.steps.map(({ status, title }) => [status, title]), [['completed', 'A'], ['failed', 'B'], ['skipped', 'C']]);
  const [a, b, c] = run.steps;
  assert.deepEqual([a.startedAt, a.finishedAt, a.duration, a.output, a.error], [at(1), at(7), 6000, 1, undefined]);
  assert.deepEqual(a.attempts, [
    { attempt: 1, startedAt: at(1), endedAt: at(3), outcome: 'failed' },
    { attempt: 2, startedAt: at(5), endedAt: at(7), outcome: 'completed' }]);
  assert.equal(b.error, 'no');
  assert.deepEqual([c.reason, c.attempts], ['b failed', []]);
  assert.deepEqual(run.progress, progress(1, 1, 1));
});

test('cancelled steps are counted apart, and a server that does not count them has none', () => {
  seq = 0;
  const cancelled = (counts) => [started(), moved('a', 'running', 1), moved('a', 'cancelled', 2, { reason: 'cancelled', progress: counts })];
  assert.deepEqual(folded(cancelled(progress(0, 0, 0, 1))).runs.get('r').progress, progress(0, 0, 0, 1));
  const { cancelled: _, ...before } = progress(0, 0, 1);
  seq = 0;
  assert.deepEqual(folded(cancelled(before)).runs.get('r').progress, progress(0, 0, 1, 0));
});

test('a message that was seen changes nothing, and what it does not touch stays the same object', () => {
  seq = 0;
  const messages = [started(), moved('a', 'running', 1)];
  const state = folded(messages);
  assert.equal(folded(messages, state), state);
  const next = folded([moved('b', 'running', 2)], state);
  assert.equal(next.runs.get('r').steps[0], state.runs.get('r').steps[0]);
  assert.equal(next.runs.get('r').index, state.runs.get('r').index);
});

test('a plan that changes: steps come, go and are others, and what is known already changes nothing', () => {
  seq = 0;
  const planned = (id, level) => ({ id, title: id.toUpperCase(), description: '', tool: 'echo', level });
  const changed = (revision) => message('workflow_plan_changed', 2, {
    revision, added: ['d'], removed: ['b'], changed: ['c'], steps: [planned('c', 1), planned('d', 2)],
    levels: [['a'], ['c'], ['d']], stepCount: 3, totalLevels: 3, by: 'ann', progress: progress(1),
  });
  const before = folded([started(), moved('a', 'completed', 1, { output: 1, duration: 5, progress: progress(1) })]);
  const run = folded([changed(2), moved('d', 'running', 3)], before).runs.get('r');
  assert.deepEqual([run.revision, run.levels], [2, [['a'], ['c'], ['d']]]);
  assert.deepEqual(run.steps.map(({ id, title, level, status }) => [id, title, level, status]),
    [['a', 'A', 0, 'completed'], ['c', 'C', 1, 'pending'], ['d', 'D', 2, 'running']]);
  assert.deepEqual(run.progress, progress(0));
  const view = { runId: 'r', planName: 'n', status: 'running', revision: 2, levels: run.levels, steps: run.steps, progress: progress(1) };
  const known = folded([message('workflow_snapshot', 3, view)]).runs.get('r');
  assert.equal(folded([changed(2)], folded([message('workflow_snapshot', 3, view)])).runs.get('r').steps.length, known.steps.length);
  const begun = folded([message('workflow_started', 0, { planName: 'n', revision: 3, levels: [['x']], steps: [planned('x', 0)], stepCount: 1 })]);
  assert.deepEqual(begun.runs.get('r').steps.map(({ title, tool }) => [title, tool]), [['X', 'echo']]);
});

test('a snapshot of items that was cut forgot the items behind it', () => {
  seq = 0;
  const said = (type, payload) => ({ type, projectId: 'p', seq, payload: { runId: 'r', stepId: 'a', ...payload } });
  const item = (at, status) => ({ item: at, itemId: `a[${at}]`, status, attempt: 1 });
  const moves = [0, 1, 2].map((at) => said('workflow_item', item(at, 'running')));
  const known = folded(moves, folded([started(), moved('a', 'running', 1)]));
  const shown = (payload) => folded([said('workflow_items_snapshot', payload)], known).runs.get('r').steps[0].itemStates
    .map(({ itemId, status }) => `${itemId} ${status}`);
  const items = [item(0, 'completed')];
  assert.deepEqual(shown({ items }), ['a[0] completed']);
  assert.deepEqual(shown({ items, truncated: true, next: 0 }), ['a[0] completed', 'a[1] running', 'a[2] running']);
  assert.deepEqual(shown({ items: [], truncated: true }), ['a[0] running', 'a[1] running', 'a[2] running']);
});

test('the last line that a step wrote is kept until its next attempt', () => {
  seq = 0;
  const output = (chunk) => message('workflow_step_output', 2, { stepId: 'a', attempt: 1, stream: 'stdout', chunk });
  const line = (state) => state.runs.get('r').steps[0].lastLine;
  let state = folded([started(), moved('a', 'running', 1), output('one\ntwo\n')]);
  assert.equal(line(state), 'two');
  state = folded([output('\n')], state);
  assert.equal(line(state), 'two');
  state = folded([output('x'.repeat(100_000))], state);
  assert.equal(line(state).length, 200);
  state = folded([output('10%\r50%\r\u001b[32m100%\u001b[0m\r\u001b[K\r\n')], state);
  assert.equal(line(state), '100%');
  state = folded([output('\u001b[0m\r\n')], state);
  assert.equal(line(state), '100%');
  state = folded([output('\u001b]8;;file:///x\u0007a link\u001b]8;;\u0007\n')], state);
  assert.equal(line(state), 'a link');
  assert.equal(line(folded([moved('a', 'running', 3, { attempt: 2 })], state)), undefined);
});

test('a snapshot takes the place of what was known, and a reset of all', () => {
  seq = 0;
  const before = folded([started(), moved('a', 'running', 1)]);
  const view = { runId: 'r', planName: 'n', status: 'running', levels: [['a']], progress: progress(0), steps: [{ id: 'a', title: 'A', tool: 't', level: 0, status: 'running', attempt: 1, startedAt: at(1) }] };
  const snapshot = { type: 'workflow_snapshot', projectId: 'p', seq: 9, payload: { ...view, timestamp: at(4) } };
  const reset = { type: 'stream_reset', projectId: 'p', seq: 1, payload: { reason: 'unknown_id' } };
  const emptied = folded([reset], before);
  assert.deepEqual([emptied.seq, emptied.runs.size], [1, 0]);
  const state = folded([snapshot], emptied);
  assert.deepEqual(state.runs.get('r').steps[0].attempts, [{ attempt: 1, startedAt: at(1) }]);
  assert.equal(folded([{ type: 'connected', projectId: 'p', seq: 7, payload: { resume: 'resumed' } }], before).seq, 2);
  assert.equal(folded([{ type: 'connected', projectId: 'p', seq: 7, payload: { resume: 'fresh' } }], before).seq, 7);
});

test('messages of runs and steps that nobody knows, and of publishers, are passed over', () => {
  seq = 0;
  const state = folded([moved('a', 'running', 1), started(), moved('z', 'running', 1), message('note', 2, { text: 'hi' })]);
  assert.equal(state.seq, 4);
  assert.deepEqual(state.runs.get('r').steps.map(({ status }) => status), ['pending', 'pending', 'pending']);
});

test('a step that waits says what it asks until it is decided', () => {
  seq = 0;
  const approval = { message: 'Ship it?', schema: { type: 'object' }, expiresAt: at(90), onExpire: 'reject' };
  const waits = folded([started(), moved('a', 'waiting', 1, { message: 'Ship it?', approval })]);
  const [step] = waits.runs.get('r').steps;
  assert.deepEqual([step.status, step.approval, step.startedAt, step.attempts], ['waiting', approval, at(1), [{ attempt: 1, startedAt: at(1) }]]);
  assert.equal(remaining(waits.runs.get('r'), new Map([['a', 9], ['b', 9], ['c', 9]]), 0), undefined);
  const { waits: count, runs: [{ waits: [asked] }] } = glance(waits);
  assert.deepEqual([count, asked], [1, { id: 'a', title: 'A' }]);
  const decision = { decision: 'approve', by: 'ann', at: at(5), payload: { n: 1 } };
  const decided = folded([moved('a', 'completed', 5, { output: decision, decision, duration: 4000 })], waits).runs.get('r').steps[0];
  assert.deepEqual([decided.status, decided.approval, decided.decision, decided.attempts[0].outcome], ['completed', undefined, decision, 'completed']);
  const rejected = folded([moved('a', 'failed', 5, { error: 'rejected by bob', decision: { ...decision, decision: 'reject' }, duration: 4000 })], waits).runs.get('r').steps[0];
  assert.deepEqual([rejected.status, rejected.error, rejected.decision.decision], ['failed', 'rejected by bob', 'reject']);
});

test('levels of an eager run may be open at once', () => {
  seq = 0;
  const level = (what, number) => message(`workflow_level_${what}`, 1, { level: number });
  const begun = { ...started(), payload: { ...started().payload, scheduling: 'eager', revision: 1 } };
  seq = 1;
  const both = folded([begun, level('started', 0), level('started', 1)]);
  const run = both.runs.get('r');
  assert.deepEqual([run.scheduling, run.openLevels, run.currentLevel, run.levelOpen], ['eager', [0, 1], 1, true]);
  const first = folded([level('completed', 0)], both).runs.get('r');
  assert.deepEqual([first.openLevels, first.levelOpen], [[1], true]);
  assert.deepEqual(folded([message('workflow_completed', 9)], both).runs.get('r').openLevels, []);
  assert.deepEqual(runOfView({ ...run, openLevels: undefined, levelOpen: true }).openLevels, [1]);
  assert.deepEqual(runOfView({ ...run, openLevels: [{ level: 0, startedAt: at(1) }, { level: 1, startedAt: at(1) }] }).openLevels, [0, 1]);
  // Two chains that do not wait for each other: the longer of what is left of them.
  const dependencies = new Map([['c', ['a']]]);
  assert.equal(remaining(run, new Map([['a', 100], ['b', 5_000], ['c', 200]]), 0, dependencies), 5_000);
});

test('a plan that changes brings steps and takes them away, and twice the same change is one', () => {
  seq = 0;
  const before = folded([started(), moved('a', 'completed', 1, { output: 1, duration: 5 })]);
  const change = message('workflow_plan_changed', 2, { revision: 2, added: ['d'], removed: ['c'], changed: ['b'], levels: [['a'], ['b', 'd']], stepCount: 3, totalLevels: 2, by: 'ann',
    steps: [{ id: 'd', title: 'D', tool: 'echo', level: 1 }, { id: 'b', title: 'Better', tool: 'echo', level: 1 }], progress: progress(1) });
  const once = folded([change], before).runs.get('r');
  assert.deepEqual([once.revision, once.levels, once.steps.map(({ id, title, level, status, addedIn }) => [id, title, level, status, addedIn])],
    [2, [['a'], ['b', 'd']], [['a', 'A', 0, 'completed', undefined], ['b', 'Better', 1, 'pending', undefined], ['d', 'D', 1, 'pending', 2]]]);
  assert.deepEqual([once.index.get('d'), once.index.has('c')], [2, false]);
  const twice = folded([change, { ...change, seq: change.seq + 1 }], before).runs.get('r');
  assert.deepEqual(twice, once);
});

test('how far a step is with a list is no new attempt', () => {
  seq = 0;
  const items = (done, failed) => ({ items: { done, failed, total: 5 } });
  const state = folded([started(), moved('a', 'running', 1), moved('a', 'running', 1, items(0, 0)), moved('a', 'running', 2, items(2, 1))]);
  const [step] = state.runs.get('r').steps;
  assert.deepEqual([step.items, step.attempts.length, step.status], [{ done: 2, failed: 1, total: 5 }, 1, 'running']);
  const [again] = folded([moved('a', 'running', 3, { attempt: 2, ...items(2, 1) })], state).runs.get('r').steps;
  assert.deepEqual(again.attempts.map(({ outcome }) => outcome), ['interrupted', undefined]);
  // Messages of single items are about steps that the run does not have.
  assert.equal(folded([moved('a[3]', 'completed', 3)], state).runs.get('r').steps.length, 3);
});

test('handlers, what was kept, and what it cost', () => {
  seq = 0;
  const usage = { inputTokens: 1000, outputTokens: 204, totalTokens: 1204, cost: 0.0123 };
  const state = folded([started(), moved('a', 'completed', 1, { output: 1, duration: 5, reused: true, usage }), moved('tell', 'running', 2, { handler: 'onFailure', level: 2 }),
    moved('tell', 'completed', 3, { handler: 'onFailure', level: 2, output: null, duration: 9 }), message('workflow_failed', 4, { error: 'no', reason: 'step_failed', usage })]);
  const run = state.runs.get('r');
  assert.deepEqual([run.usage, run.steps[0].reused, run.steps[0].usage], [usage, true, usage]);
  const more = folded([started(), moved('a', 'retrying', 1, { error: 'e', nextRetryAt: at(2), usage: { ...usage, cost: 0.1, model: 'm' } }), moved('a', 'completed', 3, { output: 1, duration: 5, usage: { ...usage, cost: 0.2, model: 'n' } })], emptyState('p')).runs.get('r');
  assert.deepEqual([more.usage, more.steps[0].usage], Array(2).fill({ inputTokens: 2000, outputTokens: 408, totalTokens: 2408, cost: 0.3 }), 'each attempt tells its own');
  assert.deepEqual([run.steps[3].id, run.steps[3].handler, run.steps[3].status, run.levels.flat().includes('tell')], ['tell', 'onFailure', 'completed', false]);
  assert.equal(format.usageText({ ...usage, model: 'm' }), '1,204 tokens (1,000 in, 204 out), cost 0.012, m');
  assert.deepEqual([0, 0.5, 12.345678, 3].map(format.costText), ['cost 0', 'cost 0.5', 'cost 12.3457', 'cost 3']);
});

test('of many runs those that ended first are let go', () => {
  seq = 0;
  let state = emptyState('p');
  for (let n = 0; n < 150; n++) {
    state = folded([message('workflow_started', 0, { runId: `r${n}`, planName: 'n', levels: [['a']], stepCount: 1 })], state);
    if (n > 0) state = folded([message('workflow_completed', 1, { runId: `r${n}` })], state);
  }
  assert.equal(state.runs.size, 100);
  assert.ok(state.runs.has('r0') && state.runs.has('r149') && !state.runs.has('r1'));
});

test('levels are columns, and no two nodes overlap', () => {
  const wide = Array.from({ length: 130 }, (_, n) => `w${n}`);
  const levels = [['a'], wide, ['z']];
  const dependencies = new Map([...wide.map((id) => [id, ['a']]), ['z', wide]]);
  for (const layout of [columns(levels, dependencies), columns([['a', 'b'], ['c']], new Map([['c', ['a', 'b']]])), rows(levels, 390)]) {
    const boxes = [...layout.nodes.values()];
    const { width, height } = layout.size;
    for (const [n, one] of boxes.entries()) {
      assert.ok(one.x >= 0 && one.x + width <= layout.width && one.y + height <= layout.height, layout.kind);
      for (const other of boxes.slice(n + 1)) {
        assert.ok(one.x + width <= other.x || other.x + width <= one.x || one.y + height <= other.y || other.y + height <= one.y);
      }
    }
  }
  const layout = columns(levels, dependencies);
  assert.equal(lines(layout, dependencies).split('M').length - 1, 260);
  assert.equal(lines(layout, dependencies, (from) => from === 'w3').split('M').length - 1, 1);
  assert.equal(visible(layout, { left: 0, top: 0, right: 100, bottom: 100 }).map(({ id }) => id).join(), 'a');
  assert.equal(neighbour(layout, 'a', 'ArrowLeft'), 'a');
  assert.ok(neighbour(layout, 'a', 'ArrowRight').startsWith('w'));
});

test('steps stand beside what they wait for, so that lines do not cross', () => {
  const layout = columns([['a', 'b'], ['x', 'y']], new Map([['x', ['b']], ['y', ['a']]]));
  assert.ok(layout.nodes.get('y').y < layout.nodes.get('x').y);
});

test('what is left is the slowest of what each level still has to do', () => {
  const step = (id, status, startedAt, duration) => ({ id, status, startedAt, duration });
  const run = (steps, estimatedDuration) => ({ steps, levels: [['a', 'b'], ['c']], index: new Map([['a', 0], ['b', 1], ['c', 2]]), startedAt: at(0), estimatedDuration });
  const steps = [step('a', 'running', at(0)), step('b', 'completed', at(0), 9000), step('c', 'pending')];
  const expected = new Map([['a', 5000], ['b', 1], ['c', 2000]]);
  const now = Date.parse(at(3));
  assert.equal(remaining(run(steps), expected, now), 4000);
  assert.equal(remaining(run(steps), expected, Date.parse(at(30))), 2000);
  assert.equal(remaining(run(steps), new Map(), now), undefined);
  assert.equal(remaining(run(steps, 10_000), new Map(), now), 7000);
  const dependencies = new Map([['c', ['a', 'b']]]);
  assert.deepEqual(criticalPath(run(steps), dependencies, expected, now), ['b', 'c']);
  assert.deepEqual([...expectations({ steps: [{ id: 'a', estimatedDuration: 5 }, { id: 'b' }] }, { steps: [{ id: 'a', status: 'completed', duration: 9 }, { id: 'b', status: 'completed', duration: 7 }, { id: 'c', status: 'failed', duration: 1 }] })],
    [['a', 5], ['b', 7]]);
});

test('rows are the same however the text came', () => {
  const text = `short\n${'0123456789'.repeat(7)}\n\n${'é😀'.repeat(20)}\nend`;
  const whole = new Rows(16);
  whole.append(text);
  const all = whole.slice(0, 1000);
  assert.equal(all.replaceAll('\n', ''), text.replaceAll('\n', ''));
  for (const row of all.split('\n')) assert.ok(row.length <= 16 && !/^[\udc00-\udfff]/.test(row), row);
  for (let size = 1; size < 40; size++) {
    const pieces = new Rows(16);
    for (let from = 0; from < text.length; from += size) pieces.append(text.slice(from, from + size));
    assert.equal(pieces.slice(0, 1000), all, `in pieces of ${size}`);
    const back = new Rows(16);
    back.append(text.slice(6));
    assert.equal(back.prepend(text.slice(0, 6)), 1);
    assert.equal(back.slice(0, 1000), all);
  }
  const { rows: gone, dropped } = whole.dropFront(10);
  assert.deepEqual([gone, dropped], [6, text.slice(0, 77)]);
  assert.equal(whole.slice(0, 1), '');
});

test('a line of a hundred thousand characters is many rows, found quickly', () => {
  const long = new Rows(100);
  for (let n = 0; n < 1000; n++) long.append('0123456789'.repeat(100));
  assert.equal(long.count, 10_000);
  assert.equal(long.row(9_999).length, 100);
});

test('text of terminals is shown as text', () => {
  assert.equal(plain('\u001b[31mred\u001b[0m \u001b]0;title\u0007x'), 'red x');
  assert.equal(plain('10%\r50%\r100%\ndone\r\n'), '100%\ndone\n');
  assert.equal(plain('a\u0000b\tc'), 'a\ufffdb\tc');
  assert.equal(fromWholeCharacter(new TextEncoder().encode('é').subarray(1)), 1);
  assert.equal(fromWholeCharacter(new TextEncoder().encode('a')), 0);
});

test('progress that comes in pieces is the last state of its line, and no escape sequence is cut', () => {
  const link = '\u001b]8;;https://example.org/\u001b\\a link\u001b]8;;\u001b\\';
  const states = Array.from({ length: 300 }, (_, n) => `${n} of 299 `.repeat(n % 7 + 1));
  const text = `begin\r\n${states.join('\r')}\r\u001b[K\n${link} \u001b[1mbold\u001b[0m\r\nend ${'x'.repeat(40)}\r99%\r`;
  const expected = `begin\n${states.at(-1)}\na link bold\n99%`;
  assert.equal(plain(text), expected);
  const whole = new Rows(16);
  whole.append(expected);
  for (const size of [1, 2, 3, 7, 50, 1000, text.length]) {
    const screen = new Screen();
    const rows = new Rows(16);
    for (let from = 0; from < text.length; from += size) {
      const { back, text: seen } = screen.take(text.slice(from, from + size));
      rows.takeBack(back);
      rows.append(seen);
    }
    assert.equal(rows.text, expected, `in pieces of ${size}`);
    assert.deepEqual(rows.starts, whole.starts, `in pieces of ${size}`);
    assert.ok(screen.held.length < 200, 'states that are over are let go');
  }
});

test('a path leads to its place in the text', () => {
  const text = '{ "name": "a \\" b",\n "steps": [\n  {"id": "x"},\n  {"id": "y", "dependencies": ["x", "nope"]}\n ] }';
  const found = (path, source = text) => { const { from, to } = locate(source, path); return source.slice(from, to); };
  assert.equal(found('steps[1].dependencies[1]'), '"nope"');
  assert.equal(found('name'), '"a \\" b"');
  assert.equal(found('steps[1].tool'), '{"id": "y", "dependencies": ["x", "nope"]}');
  assert.equal(found('steps[9]'), text.slice(text.indexOf('['), text.lastIndexOf(']') + 1));
  assert.equal(found(''), text);
  assert.equal(found('steps[0].id', `{"plan": ${text}, "inputs": {}}`), '"x"');
  assert.equal(found('inputs.a', `{"plan": ${text}, "inputs": {"a": 1e3}}`), '1e3');
  assert.doesNotThrow(() => locate('{"steps": [', 'steps[0]'));
  const { line } = lineOf(text, locate(text, 'steps[1].dependencies[1]').from);
  assert.equal(line, 4);
  assert.equal(text.slice(offsetOf(text, 3, 3)).slice(0, 2), '{"');
});

test('a publisher may name a message heartbeat, and it is handed on; the server\'s own are not', async () => {
  let source;
  globalThis.EventSource = class {
    constructor() { source = this; }
    close() {}
  };
  globalThis.location = { href: 'http://h/' };
  const told = [];
  const following = follow('p', { onMessage: (one, text) => told.push([one.type, text]) });
  const say = (type, number, payload) => source.onmessage({ lastEventId: '', data: `{"type":"${type}","projectId":"p","seq":${number},"payload":${payload}}` });
  say('connected', 4, '{"resume":"fresh","heartbeat":15000}');
  say('heartbeat', 4, '{"timestamp":"x"}');
  say('heartbeat', 5, '{"load":2.0}');
  say('heartbeat', 5, '{"timestamp":"x"}');
  following.close();
  assert.deepEqual(told.map(([type]) => type), ['connected', 'heartbeat']);
  assert.equal(told[1][1], '{"type":"heartbeat","projectId":"p","seq":5,"payload":{"load":2.0}}');
  assert.equal(following.state.seq, 5);
  delete globalThis.EventSource;
  delete globalThis.location;
});

test('whoever goes on from an id is not told of the heartbeats that come before the next message', async () => {
  let source;
  globalThis.EventSource = class {
    constructor() { source = this; }
    close() {}
  };
  globalThis.location = { href: 'http://h/' };
  const told = [];
  const following = follow('p', { lastEventId: 'x.40.y', onMessage: ({ type, seq }) => told.push(`${type} ${seq}`) });
  const say = (type, number, payload) => source.onmessage({ lastEventId: '', data: `{"type":"${type}","projectId":"p","seq":${number},"payload":${payload}}` });
  say('connected', 40, '{"resume":"resumed","heartbeat":15000}');
  say('heartbeat', 40, '{"timestamp":"x"}');
  say('note', 41, '{}');
  following.close();
  assert.deepEqual(told, ['connected 40', 'note 41']);
  delete globalThis.EventSource;
  delete globalThis.location;
});

test('who goes from project to project leaves no trail of streams', async () => {
  const sources = [];
  globalThis.EventSource = class {
    constructor(url) {
      Object.assign(this, { url: String(url), readyState: 1 });
      sources.push(this);
    }
    close() { this.readyState = 2; }
  };
  globalThis.location = { href: 'http://h/' };
  const { Hub } = await part('hub');
  const hub = new Hub();
  const open = () => sources.filter(({ readyState }) => readyState === 1).map(({ url }) => /projects\/(\w+)/.exec(url)[1]).join();
  const asks = ['a', 'b', 'c', 'd', 'd'];
  const port = { postMessage() {}, start() {} };
  hub.attach(port);
  for (const follow of asks) port.onmessage({ data: { follow, token: '' } });
  assert.equal(open(), 'd');
  const other = { postMessage() {}, start() {} };
  hub.attach(other);
  other.onmessage({ data: { follow: 'a', token: '' } });
  assert.equal(open(), 'd,a');
  // A reload: who leaves and asks for the same is back on the same stream.
  other.onmessage({ data: { leave: true } });
  other.onmessage({ data: { follow: 'a', token: '' } });
  assert.deepEqual([open(), sources.length], ['d,a', 5]);
  for (const one of [port, other]) one.onmessage({ data: { leave: true } });
  for (const channel of hub.channels.values()) channel.close();
  assert.equal(open(), '');
  delete globalThis.EventSource;
  delete globalThis.location;
});

/** Stands in for the browser's EventSource; the newest one, and what is said over it. */
function stage() {
  const sources = [];
  globalThis.EventSource = class {
    constructor(url) {
      Object.assign(this, { url: new URL(url), readyState: 1 });
      sources.push(this);
    }
    close() { this.readyState = 2; }
  };
  globalThis.location = { href: 'http://h/' };
  const say = (projectId, type, number, payload = {}, id = '') =>
    sources.at(-1).onmessage({ lastEventId: id, data: JSON.stringify({ type, projectId, seq: number, payload }) });
  const end = () => {
    delete globalThis.EventSource;
    delete globalThis.location;
  };
  return { sources, say, end };
}

test('several projects are folded apart, over one stream', () => {
  const { sources, say, end } = stage();
  const told = [];
  const following = follow(['a', 'b', 'a'], { onMessage: ({ projectId, type, seq }, _, id) => told.push(`${projectId} ${type} ${seq} ${id}`) });
  assert.equal(sources.length, 1);
  assert.deepEqual([sources[0].url.pathname, sources[0].url.searchParams.get('projects')], ['/api/sse', 'a,b']);
  say('a', 'connected', 7, { resume: 'fresh', heartbeat: 15_000 });
  say('b', 'connected', 0, { resume: 'fresh', heartbeat: 15_000 });
  say('b', 'note', 1, {}, 'v1');
  say('a', 'note', 7);
  say('a', 'note', 8, {}, 'v2');
  say('c', 'note', 1);
  say('b', 'heartbeat', 1);
  assert.deepEqual(told, ['a connected 7 ', 'b connected 0 ', 'b note 1 v1', 'a note 8 v2']);
  const { projects, connection } = following.state;
  assert.deepEqual([connection.status, following.lastEventId], ['live', 'v2']);
  assert.deepEqual([...projects].map(([id, { seq: newest }]) => [id, newest]), [['a', 8], ['b', 1]]);
  say('a', 'stream_reset', 9);
  assert.equal(following.state.projects.get('b'), projects.get('b'), 'a reset of one is none of the other');
  following.close();
  end();
});

test('the end of one project\'s part is not the end of the stream', () => {
  const { say, end } = stage();
  const following = follow(['a', 'b']);
  say('a', 'connected', 0, { resume: 'fresh' });
  say('b', 'stream_closing', 0, { reason: 'forbidden' });
  assert.deepEqual([following.state.connection.status, following.state.projects.get('b').connection.status], ['live', 'denied']);
  say('b', 'connected', 0, { resume: 'fresh' });
  assert.equal(following.state.projects.get('b').connection, undefined);
  say('a', 'stream_closing', 0, { reason: 'shutdown' });
  assert.deepEqual(following.state.connection, { status: 'reconnecting', reason: 'the server is shutting down' });
  following.close();
  end();
});

test('a list that changes goes on where each project was', async () => {
  const { sources, say, end } = stage();
  const following = follow(['a', 'b']);
  say('a', 'connected', 3, { resume: 'fresh' }, 'v0');
  say('b', 'note', 5, {}, 'v1');
  following.change(['b', 'a']);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(sources.length, 1, 'the same ones are no change');
  following.change(['b', 'c']);
  await new Promise((resolve) => setTimeout(resolve, 5));
  const query = sources[1].url.searchParams;
  assert.deepEqual([sources.length, sources[0].readyState, query.get('projects'), query.get('lastEventId')], [2, 2, 'b,c', 'v1']);
  assert.deepEqual([...following.state.projects].map(([id, { seq: newest }]) => [id, newest]), [['b', 5], ['c', 0]]);
  following.close();
  end();
});

test('what can\'t be one stream is an error that says so', () => {
  const { sources, end } = stage();
  const many = Array.from({ length: 33 }, (_, n) => `p${n}`);
  assert.throws(() => follow(many), { name: 'RangeError', message: 'a stream must have 1 to 32 projects, not 33' });
  assert.throws(() => follow([]), { name: 'RangeError', message: 'a stream must have 1 to 32 projects, not 0' });
  assert.throws(() => follow(['a', 'b'], { runId: 'r' }), /requires a single project/);
  assert.equal(sources.length, 0);
  const one = follow('a');
  assert.throws(() => one.change(['b']), /a list/);
  one.close();
  end();
});

test('an overview is told in short, once for all tabs, and of what has changed alone', async () => {
  const { sources, say, end } = stage();
  const { Hub } = await part('hub');
  const hub = new Hub();
  const told = [];
  const port = { postMessage: (data) => told.push(data), start() {} };
  hub.attach(port);
  port.onmessage({ data: { overview: ['a', 'b'], token: '' } });
  assert.deepEqual(told[0].glances.map(({ projectId, active }) => [projectId, active]), [['a', 0], ['b', 0]]);
  for (const id of ['a', 'b']) say(id, 'connected', 0, { resume: 'fresh' });
  await new Promise((resolve) => setTimeout(resolve, 150));
  told.length = 0;
  say('b', 'workflow_started', 1, { runId: 'r', planName: 'n', levels: [['s']], stepCount: 1, timestamp: at(0) });
  await new Promise((resolve) => setTimeout(resolve, 150));
  const [{ glances }] = told;
  assert.deepEqual([told.length, glances.length, glances[0].projectId, glances[0].active, glances[0].runs[0].planName], [1, 1, 'b', 1, 'n']);
  const other = { postMessage() {}, start() {} };
  hub.attach(other);
  other.onmessage({ data: { overview: ['a', 'b'], token: '' } });
  assert.equal(sources.length, 1, 'tabs share it');
  for (const one of [port, other]) one.onmessage({ data: { leave: true } });
  for (const channel of hub.channels.values()) channel.close();
  end();
});

test('a glance shows the runs that go on, or else the one that ended last', () => {
  seq = 0;
  const running = folded([started(), moved('a', 'running', 1), moved('b', 'running', 1), moved('c', 'running', 2)]);
  const [run] = glance(running).runs;
  assert.deepEqual([run.planName, run.status, run.doing, glance(running).active], ['n', 'running', 'A, B, 1 more', 1]);
  const ended = folded([message('workflow_failed', 9, { error: 'no', reason: 'step_failed' })], running);
  assert.deepEqual([glance(ended).active, glance(ended).runs[0].error, glance(ended).runs[0].doing], [0, 'no', '']);
  assert.deepEqual(glance(emptyState('p')), { projectId: 'p', denied: undefined, active: 0, waits: 0, runs: [] });
});

test('of too many projects those are followed in which something runs, and nobody is let go for nothing', () => {
  const project = (projectId, activeRuns, second) => ({ projectId, activeRuns, lastActivity: at(second) });
  const all = [project('a', 0, 1), project('b', 0, 9), project('c', 1, 2), project('d', 0, 5)];
  assert.deepEqual(chosen(all, 3, new Set()), ['c', 'b', 'd']);
  assert.deepEqual(chosen(all, 2, new Set(['a', 'd'])), ['c', 'd']);
  assert.deepEqual(chosen(all, 9, new Set()).length, 4);
  const ids = (known) => ordered(all, new Map([['c', { active: 0 }], ['d', { active: 2 }]]), known).map(({ projectId }) => projectId);
  assert.deepEqual(ids(new Set()), ['d', 'b', 'c', 'a']);
  assert.deepEqual(ids(new Set(['a', 'b', 'd'])), ['d', 'c', 'a', 'b'], 'a new one is first of those where nothing runs');
});

test('the items of a list and what a message carries are found as they were written', () => {
  const text = '{"events": [{"id":"x","payload":{"n":2.0,"s":"}]"}}, {"payload":{}} ],"oldest":1}';
  const items = json.itemsAt(text, ['events']);
  assert.deepEqual(items, ['{"id":"x","payload":{"n":2.0,"s":"}]"}}', '{"payload":{}}']);
  assert.deepEqual(items.map(json.payloadOf), [{ text: '{"n":2.0,"s":"}]"}', chars: 18 }, { text: '{}', chars: 2 }]);
  assert.deepEqual(json.itemsAt('{"events":[]}', ['events']), []);
  const long = json.payloadOf(`{"type":"t","projectId":"p","seq":1,"payload":{"x":"${'y'.repeat(20_000)}"}}`);
  assert.deepEqual([long.text.length, long.chars], [16_384, 20_008]);
});

test('durations, sizes and times as people say them', () => {
  assert.match(format.decisionText({ decision: 'approve', by: 'ann', at: at(3) }), /^approved by ann at \S+$/);
  assert.match(format.decisionText({ decision: 'reject', by: null, at: at(3), expired: true }), /^rejected at \S+, because nobody decided in time$/);
  assert.deepEqual([0, 320, 4_210, 9_960, 65_000, 7_620_000, 2e8].map(format.duration), ['0 ms', '320 ms', '4.2 s', '10 s', '1 min 05 s', '2 h 07 min', '2 d 7 h']);
  assert.deepEqual([999, 1_000, 59_000, 3_000_000].map(format.remaining), ['almost done', 'about 1 s left', 'about 59 s left', 'about 50 min left']);
  assert.deepEqual([1, 1_023, 14_541, 52_428_800].map(format.bytes), ['1 byte', '1023 bytes', '14.2 KiB', '50.0 MiB']);
  assert.deepEqual([0, 12_000, 3_600_000].map(format.ago), ['just now', '12 s ago', '1 h ago']);
  assert.equal(format.duration(undefined), '');
});

test('a view of a run that is not yet begun', () => {
  const run = runOfView({ runId: 'r', planName: 'n', status: 'queued', levels: [['a']], progress: progress(0), steps: [{ id: 'a', title: 'A', level: 0, status: 'pending', attempt: 0 }] });
  assert.deepEqual([run.steps[0].attempts, run.levelOpen], [[], false]);
});

test('JSON is laid out without a number being rounded or a text rewritten', () => {
  const { indented, textAt } = json;
  const text = '{"a":9007199254740993, "b":[2.0,1e400,-0.10,[],{ }], "c\\"}":"x, {\\u00e9}: [é","d":{}}';
  assert.equal(indented(text), `{
  "a": 9007199254740993,
  "b": [
    2.0,
    1e400,
    -0.10,
    [],
    {}
  ],
  "c\\"}": "x, {\\u00e9}: [é",
  "d": {}
}`);
  for (const same of ['12345678901234567890', '"a\\\\"', 'null', '[]', 'no JSON {', '']) assert.equal(indented(same), same);
  assert.equal(indented(indented(text)), indented(text));
  assert.equal(textAt(text, ['b', 1]), '1e400');
  assert.equal(textAt(text, ['b', 4]), '{ }');
  assert.equal(textAt(text, ['c"}']), '"x, {\\u00e9}: [é"');
  assert.equal(textAt(text, ['b', 9]), undefined);
  assert.equal(textAt('{"n": 1, "n": 2.0}', ['n']), '2.0');
  // Laid out as JSON.stringify does it, wherever that rounds nothing.
  const plain = { a: [1, 'two', { b: null, c: [[], {}, [true]] }], 'd e': '\n\u2028' };
  assert.equal(indented(JSON.stringify(plain)), JSON.stringify(plain, null, 2));
});

/** A form's way: what it begins with, changed by who fills it in, and what comes out. */
function filled(schema, change = {}, values = undefined) {
  const field = fieldOf(schema);
  const raw = initial(field, values);
  const { text, issues } = read(field, typeof change === 'object' && !Array.isArray(change) ? { ...raw, ...change } : change);
  return issues.length > 0 ? issues.map(({ path, message: why }) => `${path}: ${why}`) : text;
}
const object = (properties, required = [], more = {}) => ({ type: 'object', properties, required, ...more });

test('a schema becomes fields, each of the kind that takes it', () => {
  const table = [
    [{ type: 'string' }, 'text'], [{ type: 'string', format: 'date' }, 'date'], [{ type: 'string', format: 'date-time' }, 'datetime'], [{ type: 'string', format: 'email' }, 'email'],
    [{ type: 'string', maxLength: 2000 }, 'long'], [{ type: 'string', format: 'textarea' }, 'long'], [{ type: 'string', writeOnly: true }, 'password'],
    [{ type: 'number' }, 'number'], [{ type: 'integer' }, 'integer'], [{ type: 'boolean' }, 'boolean'], [{ type: ['string', 'null'] }, 'text'],
    [{ enum: ['a', 1, null] }, 'choice'], [{ const: 3 }, 'choice'], [{ oneOf: [{ const: 1, title: 'One' }, { const: 2 }] }, 'choice'],
    [{ type: 'array', items: { type: 'integer' } }, 'list'], [{ type: 'array', items: { enum: ['x'] } }, 'list'], [{ type: 'array', items: object({ a: {} }) }, 'json'], [{ type: 'array' }, 'json'],
    [object({ a: { type: 'string' } }), 'object'], [{ properties: {} }, 'object'], [{ type: 'object' }, 'json'], [{}, 'json'], [true, 'json'], [{ type: ['string', 'number'] }, 'json'],
    [{ $ref: '#/$defs/n', $defs: { n: { type: 'integer' } } }, 'integer'], [{ $ref: '#/$defs/gone' }, 'json'], [{ $ref: 'https://example.org/s' }, 'json'],
  ];
  for (const [schema, kind] of table) assert.equal(fieldOf(schema).kind, kind, JSON.stringify(schema));
  // One that is within itself has an end.
  const tree = { $ref: '#/$defs/t', $defs: { t: object({ inner: { $ref: '#/$defs/t' } }) } };
  let depth = 0;
  for (let field = fieldOf(tree); field.kind === 'object'; [field] = field.fields) depth += 1;
  assert.equal(depth, 4);
  const [a, b] = fieldOf(object({ dueDate: {}, n: { title: 'Count', description: 'How many' } }, ['n'])).fields;
  assert.deepEqual([a.title, a.isRequired, b.title, b.description, b.isRequired], ['Due date', false, 'Count', 'How many', true]);
});

test('what is filled in becomes JSON, with numbers as they were typed', () => {
  const s = { type: 'string' };
  const table = [
    [object({ a: s, b: { type: 'integer' } }, ['a']), { a: ' x"', b: '9007199254740993' }, '{"a":" x\\"","b":9007199254740993}'],
    [object({ n: { type: 'number' } }), { n: ' 2.0 ' }, '{"n":2.0}'],
    [object({ a: s, n: { type: 'number' } }), {}, '{}'],
    [object({ a: { ...s, default: 'd' }, n: { type: 'integer', default: 3 }, b: { type: 'boolean', default: true } }), {}, '{"a":"d","n":3,"b":true}'],
    [object({ b: { type: 'boolean' } }, ['b']), {}, '{"b":false}'],
    [object({ b: { type: 'boolean' } }), {}, '{}'],
    [object({ b: { type: 'boolean' } }), { b: 'false' }, '{"b":false}'],
    [object({ c: { enum: ['low', { x: 1 }] } }), { c: '1' }, '{"c":{"x":1}}'],
    [object({ c: { enum: ['low', 'high'], default: 'high' } }), {}, '{"c":"high"}'],
    [object({ c: { const: 'only' } }, ['c']), {}, '{"c":"only"}'],
    [object({ l: { type: 'array', items: { type: 'integer' }, default: [1, 2] } }), {}, '{"l":[1,2]}'],
    [object({ l: { type: 'array', items: s } }), {}, '{}'],
    [object({ l: { type: 'array', items: s } }, ['l']), {}, '{"l":[]}'],
    [object({ o: object({ a: s }, ['a']) }), {}, '{}'],
    [object({ o: object({ a: s, b: { type: 'boolean', default: false } }, ['a']) }), { o: { a: 'x', b: 'true' } }, '{"o":{"a":"x","b":true}}'],
    [object({ j: {} }), { j: '{"n": 1e400}' }, '{"j":{"n": 1e400}}'],
    [object({ z: { type: ['string', 'null'] } }, ['z']), {}, '{"z":null}'],
    [object({ t: { type: 'string', format: 'date-time' } }), { t: '2026-03-04T05:06:07' }, `{"t":"${new Date('2026-03-04T05:06:07').toISOString()}"}`],
    [s, 'alone', '"alone"'],
  ];
  for (const [schema, change, expected] of table) assert.equal(filled(schema, change), expected, JSON.stringify(schema));
  const given = object({ a: { type: 'string', default: 'd' }, t: { type: 'string', format: 'date-time' }, o: object({ n: { type: 'integer' } }) });
  assert.equal(filled(given, {}, { a: 'given', t: '2026-03-04T05:06:07.000Z', o: { n: 4 } }), '{"a":"given","t":"2026-03-04T05:06:07.000Z","o":{"n":4}}');
});

test('what is wrong is told at its field', () => {
  const s = { type: 'string' };
  const table = [
    [object({ a: s }, ['a']), {}, ['a: required']],
    [object({ n: { type: 'number' } }), { n: '1,5' }, ['n: must be a number']],
    [object({ n: { type: 'integer' } }), { n: '1.5' }, ['n: must be an integer']],
    [object({ n: { type: 'integer', minimum: 3 } }), { n: '2' }, ['n: must be at least 3']],
    [object({ n: { type: 'integer', maximum: 3 } }), { n: '4' }, ['n: must be at most 3']],
    [object({ n: { type: 'number', exclusiveMinimum: 0 } }), { n: '0' }, ['n: must be greater than 0']],
    [object({ n: { type: 'number', exclusiveMaximum: 1 } }), { n: '1' }, ['n: must be less than 1']],
    [object({ a: { ...s, minLength: 2 } }), { a: '😀' }, ['a: must have at least 2 characters']],
    [object({ a: { ...s, maxLength: 2 } }), { a: 'abc' }, ['a: must have at most 2 characters']],
    [object({ a: { ...s, pattern: '^v\\d+$' } }), { a: 'x' }, ['a: must match ^v\\d+$']],
    [object({ a: { ...s, pattern: '(?<' } }), { a: 'x' }, '{"a":"x"}'],
    [object({ l: { type: 'array', items: { type: 'integer' } } }), { l: ['1', 'x'] }, ['l[1]: must be an integer']],
    [object({ l: { type: 'array', items: s, minItems: 2 } }), { l: ['x'] }, ['l: at least 2 required']],
    [object({ l: { type: 'array', items: s, maxItems: 1 } }), { l: ['x', 'y'] }, ['l: at most 1 allowed']],
    [object({ l: { type: 'array', items: s, uniqueItems: true } }), { l: ['x', 'x'] }, ['l: entries must be unique']],
    [object({ o: object({ a: s, b: s }, ['a']) }), { o: { a: '', b: 'x' } }, ['o.a: required']],
    [object({ o: object({ a: s }, ['a']) }, ['o']), {}, ['o.a: required']],
    [object({ j: {} }), { j: '{' }, ['j: must be valid JSON']],
    [{}, '', [': must be valid JSON']],
  ];
  for (const [schema, change, expected] of table) assert.deepEqual(filled(schema, change), expected, JSON.stringify(schema));
  assert.deepEqual(['payload.a[0].b', 'payload', 'inputs.x', '/a/0/b', 'a.b', undefined, 'payloads'].map(formPath), ['a[0].b', '', 'x', 'a[0].b', 'a.b', '', 'payloads']);
});

test('calls that steer a run are one request with a key, and a refusal says what the server said', async () => {
  const { fetch } = globalThis;
  const asked = [];
  let answer = { ok: true, status: 200, json: async () => ({ fine: true }) };
  globalThis.fetch = async (url, { method, headers, body }) => {
    asked.push([method, url, headers['idempotency-key'], headers.authorization, body]);
    return answer;
  };
  assert.deepEqual(await decide('p', 'r 1', 's', { decision: 'approve', payload: { n: 1 } }, { key: 'k', headers: { authorization: 'Bearer t' } }), { fine: true });
  await retry('p', 'r');
  await changePlan('p', 'r', { expectedRevision: 1, remove: ['a'] }, { base: 'http://h' });
  const [first, second, third] = asked;
  assert.deepEqual(first, ['POST', '/api/projects/p/workflows/r%201/steps/s/decision', 'k', 'Bearer t', '{"decision":"approve","payload":{"n":1}}']);
  assert.deepEqual([second[0], second[1], second[4]], ['POST', '/api/projects/p/workflows/r/retry', '{}']);
  assert.deepEqual([third[0], third[1]], ['PATCH', 'http://h/api/projects/p/workflows/r/plan']);
  assert.ok(second[2].length > 15 && second[2] !== third[2]);
  answer = { ok: false, status: 409, json: async () => ({ detail: 'the plan is now at revision 3', code: 'stale_revision', revision: 3 }) };
  await assert.rejects(changePlan('p', 'r', { expectedRevision: 1 }), (error) =>
    error instanceof CallRefused && error.status === 409 && error.code === 'stale_revision' && error.problem.revision === 3 && error.message === 'the plan is now at revision 3');
  globalThis.fetch = fetch;
});
