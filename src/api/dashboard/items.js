/**
 * The items of a step with `forEach`: their totals, and a page of them, which is reloaded while they progress. Owns that page;
 * the step's view knows whose output is shown.
 */
import * as api from './api.js';
import { h, icon, setIcon, setText } from './dom.js';
import { count, duration, word } from './format.js';
import { progressBar, setBars } from './runs.js';

/** Items that are read and drawn at a time, whatever their number. */
const PAGE = 100;

/** Reads of what moves on are at least so far apart, and no more than a quarter of the time is spent on them, in milliseconds. */
const READ_INTERVAL = 1_000;

/** Characters of an output or an error that stand in an item's line. */
const LINE_CHARS_MAX = 300;

const FILTERS = { '': 'All', running: 'Running', failed: 'Failed' };

/** `12 of 50 items, 1 failed`. */
export const itemsText = ({ done, failed, total }) => `${(done + failed).toLocaleString('en')} of ${count(total, 'item')}${failed > 0 ? `, ${failed} failed` : ''}`;

export class ItemsView {
  /** `look(n)` shows the output of an item, `look()` that of the step; `onRead()` is told that items have been read. */
  constructor(project, runId, stepId, { app, look, onRead }) {
    Object.assign(this, { project, runId, stepId, app, look, onRead, states: new Map(), rows: new Map(), status: '', pages: [undefined] });
    this.sum = h('p.numbers');
    this.bar = progressBar();
    this.summary = h('div.items-part', {}, h('h3', {}, 'Items'), this.sum, this.bar);
    this.filters = Object.entries(FILTERS).map(([status, text]) =>
      h('button', { type: 'button', 'data-status': status, 'aria-pressed': String(status === ''), onclick: () => this.filter(status) }, text));
    this.before = h('button.plain', { type: 'button', disabled: true, onclick: () => this.turn(-1) }, 'Previous');
    this.behind = h('button.plain', { type: 'button', disabled: true, onclick: () => this.turn(1) }, 'Next');
    this.range = h('span.size.numbers', { role: 'status' });
    this.list = h('ol.items');
    this.note = h('p.note', {}, 'Loading');
    this.scroller = h('div.items-scroll', { tabindex: '0', role: 'region', 'aria-label': 'Items' }, this.list, this.note);
    this.element = h('div.output', {},
      h('div.output-bar', {}, h('div.segments', { role: 'group', 'aria-label': 'Filter items' }, ...this.filters),
        h('button.plain', { type: 'button', onclick: () => look() }, 'Output of all'), h('span.pager', {}, this.range, this.before, this.behind)), this.scroller);
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
  }

  /** The step has moved. */
  update(step) {
    const before = this.step;
    this.step = step;
    if (before === step) return;
    setText(this.sum, itemsText(step.items));
    setBars(this.bar, { completed: step.items.done, failed: step.items.failed, skipped: 0, total: step.items.total });
    this.readSoon();
  }

  /** Comes back from an item. */
  focus(number) {
    (this.rows.get(number)?.element.firstChild ?? this.scroller).focus();
  }

  /** Where an item is, as far as it was read. */
  stateOf(number) {
    return this.states.get(number);
  }

  filter(status) {
    this.status = status;
    for (const button of this.filters) button.setAttribute('aria-pressed', String(button.dataset.status === status));
    this.open([undefined]);
  }

  turn(by) {
    this.open(by > 0 ? [...this.pages, this.next] : this.pages.slice(0, -1));
  }

  /** Another page; `pages` are the items behind which each page begins up to that one. */
  open(pages) {
    this.pages = pages;
    this.scroller.scrollTop = 0;
    this.readAt = undefined;
    this.reading = undefined;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.read();
  }

  readSoon() {
    if (this.timer || this.reading) {
      this.hasMore = true;
      return;
    }
    const pause = Math.max(READ_INTERVAL, 3 * (this.tookMs ?? 0)) - (performance.now() - (this.readAt ?? -Infinity));
    this.timer = setTimeout(() => this.read(), Math.max(0, pause));
  }

  async read() {
    this.timer = undefined;
    this.hasMore = false;
    const [reading, begun, after] = [{}, performance.now(), this.pages.at(-1)];
    this.reading = reading;
    try {
      const query = { limit: PAGE, ...(after !== undefined && { after }), ...(this.status && { status: this.status }) };
      const page = await api.readItems(this.project, this.runId, this.stepId, query);
      if (reading !== this.reading || this.isClosed) return;
      this.draw(page);
    } catch (error) {
      if (reading !== this.reading || this.isClosed) return;
      this.app.refused(error);
    }
    this.reading = undefined;
    this.readAt = performance.now();
    this.tookMs = this.readAt - begun;
    this.onRead();
    if (this.hasMore) this.readSoon();
  }

  draw({ items, next }) {
    this.next = next ?? undefined;
    this.states = new Map(items.map((item) => [item.item, item]));
    for (const [number, { element }] of this.rows) {
      if (this.states.has(number)) continue;
      element.remove();
      this.rows.delete(number);
    }
    items.forEach((item, at) => {
      const row = this.rows.get(item.item) ?? this.newRow(item.item);
      row.show(item);
      if (this.list.children[at] !== row.element) this.list.insertBefore(row.element, this.list.children[at] ?? null);
    });
    this.before.disabled = this.pages.length < 2;
    this.behind.disabled = this.next === undefined;
    this.note.hidden = items.length > 0;
    setText(this.note, this.status ? `No item ${this.status === 'failed' ? 'has failed' : 'is running'}.` : 'No item has started.');
    setText(this.range, items.length > 0 ? `${items[0].item} to ${items.at(-1).item}` : '');
  }

  newRow(number) {
    const row = itemRow(() => this.look(number));
    this.rows.set(number, row);
    return row;
  }
}

/** The line of an item, which leads to its output. */
function itemRow(onclick) {
  const [sign, id, state, says, took] = [icon('pending'), h('code'), h('span'), h('span.line'), h('span.soft.numbers')];
  const element = h('li', {}, h('button', { type: 'button', onclick }, sign, id, state, says, took));
  let shown;
  const show = (item) => {
    const { status, attempt, duration: ms, error, finishedAt } = item;
    const drawn = `${status} ${attempt} ${finishedAt}`;
    if (shown === drawn) return;
    shown = drawn;
    setIcon(sign, status);
    setText(id, item.id);
    setText(state, `${word(status)}${attempt > 1 ? `, attempt ${attempt}` : ''}`);
    setText(says, (error ?? lineOf(item.output)).slice(0, LINE_CHARS_MAX));
    says.classList.toggle('error', error !== undefined);
    setText(took, duration(ms));
  };
  return { element, show };
}

const lineOf = (output) => output === undefined || output === null ? '' : typeof output === 'string' ? output : JSON.stringify(output);
