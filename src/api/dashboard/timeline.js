/**
 * Steps on a timeline: when each started, waited and ended. Lanes are in the order in which steps start; only visible lanes
 * are in the page.
 */
import { h, icon, setIcon, setText } from './dom.js';
import { HANDLERS, duration, ticking, word } from './format.js';
import { elapsed, isEnded } from './estimate.js';
import { now } from './api.js';

const LANE = 30;
const AXIS = 30;
const LABEL = 200;
const LABEL_NARROW = 128;
/** Beside the last bar there is room for how long it took. */
const ROOM = 76;
const MARGIN = 300;

/** Distances between the lines of the axis, in milliseconds. */
const STEPS = [100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5, 72e5, 216e5, 864e5];

export class Timeline {
  constructor(pane, choose) {
    Object.assign(this, { pane, choose, lanes: new Map() });
    this.axis = h('div.axis', { 'aria-hidden': 'true' });
    this.grid = h('div', { 'aria-hidden': 'true' });
    this.element = h('div.timeline', { role: 'group', 'aria-label': 'Steps in the order they started' }, this.grid, this.axis);
    pane.addEventListener('scroll', () => this.isShown && this.fill(), { passive: true });
    addEventListener('scroll', () => this.isShown && this.fill(), { passive: true });
  }

  show() {
    this.isShown = true;
    this.pane.append(this.element);
  }

  hide() {
    this.isShown = false;
    this.element.remove();
  }

  update(run, context) {
    if (run.steps !== this.run?.steps) this.order = inOrder(run);
    Object.assign(this, { run, context });
    this.element.style.height = `${AXIS + this.order.length * LANE + 12}px`;
    this.draw(now());
  }

  tick(time) {
    if (this.run && !isEnded(this.run.status)) this.draw(time);
  }

  draw(time) {
    const { run } = this;
    if (!this.isShown) return;
    this.label = innerWidth < 640 ? LABEL_NARROW : LABEL;
    this.start = Date.parse(run.startedAt ?? run.createdAt);
    const end = run.finishedAt ? Date.parse(run.finishedAt) : time;
    this.span = Math.max(end - this.start, 100);
    this.scale = (this.element.clientWidth - this.label - ROOM) / this.span;
    this.time = time;
    this.drawAxis();
    this.fill(true);
  }

  drawAxis() {
    const distance = STEPS.find((step) => step * this.scale >= 84) ?? STEPS.at(-1);
    const marks = Array.from({ length: Math.floor(this.span / distance) + 1 }, (_, at) => at * distance);
    const drawn = `${marks.length} ${distance} ${Math.round(this.scale * 1e6)}`;
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const at = (element, ms) => {
      element.style.left = `${this.label + ms * this.scale}px`;
      return element;
    };
    this.axis.replaceChildren(...marks.map((ms) => at(h('span.numbers', {}, ms === 0 ? '0 s' : duration(ms)), ms)));
    this.grid.replaceChildren(...marks.map((ms) => at(h('i.grid-line'), ms)));
  }

  fill(isAll = false) {
    if (!this.order) return;
    const top = -this.element.getBoundingClientRect().top - AXIS;
    const first = Math.max(0, Math.floor((top - MARGIN) / LANE));
    const last = Math.min(this.order.length, Math.ceil((top + innerHeight + MARGIN) / LANE));
    const shown = new Set();
    for (let at = first; at < last; at++) {
      shown.add(this.order[at]);
      this.fillLane(this.order[at], at, isAll);
    }
    for (const [id, { button }] of this.lanes) {
      if (shown.has(id)) continue;
      button.remove();
      this.lanes.delete(id);
    }
  }

  fillLane(id, at, isAll) {
    const isNew = !this.lanes.has(id);
    const lane = this.lanes.get(id) ?? this.newLane(id);
    const step = this.run.steps[this.run.index.get(id)];
    lane.button.style.top = `${AXIS + at * LANE}px`;
    lane.button.setAttribute('aria-current', String(id === this.context.chosen));
    if (!isNew && !isAll) return;
    setIcon(lane.icon, step.status);
    setText(lane.name, this.context.title(step));
    setText(lane.handler, step.handler ? HANDLERS[step.handler] ?? step.handler : '');
    lane.label.style.width = `${this.label}px`;
    const took = isEnded(step.status) ? duration(step.duration) : step.startedAt ? ticking(elapsed(step, this.time)) : '';
    setText(lane.said, `${word(step.status)} `);
    this.drawSpans(lane, step, took);
  }

  drawSpans(lane, step, took) {
    const spans = spansOf({ ...step, attempts: this.context.attempts(step) }, this.time);
    while (lane.spans.children.length < spans.length) lane.spans.append(h('i'));
    while (lane.spans.children.length > spans.length) lane.spans.lastChild.remove();
    spans.forEach(({ from, to, kind }, at) => {
      const span = lane.spans.children[at];
      if (span.className !== `span ${kind}`) span.className = `span ${kind}`;
      span.style.left = `${this.label + (from - this.start) * this.scale}px`;
      span.style.width = `${Math.max(0, to - from) * this.scale}px`;
    });
    setText(lane.took, spans.length > 0 ? took : step.status === 'pending' ? '' : step.status);
    const end = spans.length > 0 ? spans.at(-1).to - this.start : 0;
    lane.took.style.left = `${this.label + end * this.scale}px`;
  }

  newLane(id) {
    const lane = { icon: icon('pending'), name: h('span'), handler: h('span.handler'), spans: h('span'), said: h('span.visually-hidden'), took: h('span.took.numbers') };
    lane.label = h('span.label', {}, lane.icon, lane.name, ' ', lane.handler);
    lane.button = h('button.lane', { type: 'button', 'data-id': id, onclick: () => this.choose(id) }, lane.label, lane.said, lane.spans, lane.took);
    this.lanes.set(id, lane);
    this.element.append(lane.button);
    return lane;
  }
}

/** Step ids in the order in which they began; those that did not, in the plan's order behind them. */
export function inOrder(run) {
  const began = (step) => step.startedAt ? Date.parse(step.startedAt) : Infinity;
  const place = new Map(run.levels.flat().map((id, at) => [id, at]));
  const at = ({ id }) => place.get(id) ?? place.size + run.index.get(id);
  const compare = (a, b) => (began(a) === began(b) ? 0 : began(a) - began(b)) || at(a) - at(b);
  return [...run.steps].sort(compare).map(({ id }) => id);
}

/** What a step did: its attempts, and the waits between them. */
export function spansOf(step, time) {
  const spans = [];
  let before;
  for (const { startedAt, endedAt, outcome } of step.attempts) {
    const from = Date.parse(startedAt);
    const to = endedAt ? Date.parse(endedAt) : time;
    if (before !== undefined) spans.push({ from: before, to: from, kind: 'wait' });
    spans.push({ from, to, kind: outcome ?? (step.status === 'waiting' ? 'waiting' : 'running') });
    before = to;
  }
  if (step.status === 'retrying' && before !== undefined) spans.push({ from: before, to: time, kind: 'wait' });
  return spans;
}
