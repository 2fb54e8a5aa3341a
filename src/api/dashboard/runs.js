/**
 * The list of a project's runs: first the active ones, then the newest. Owns the list from the server, and updates it from the
 * stream.
 */
import * as api from './api.js';
import { h, icon, setIcon, setText } from './dom.js';
import { ago, duration, ticking, word } from './format.js';
import { isEnded, waiting } from './estimate.js';

const FILTERS = { all: 'All', active: 'Active', failed: 'Failed' };

const filterOf = {
  all: () => true,
  active: (run) => !isEnded(run.status),
  failed: (run) => run.status === 'failed',
};

export class RunList {
  constructor(element, app) {
    this.app = app;
    this.listed = new Map();
    this.rows = new Map();
    this.filter = 'all';
    this.heard = 0;
    this.buttons = Object.entries(FILTERS).map(([name, text]) =>
      h('button', { type: 'button', 'aria-pressed': String(name === 'all'), onclick: () => this.choose(name) }, text));
    this.search = h('input', { type: 'search', placeholder: 'Find a run', 'aria-label': 'Find a run by name or ID', oninput: () => app.redraw() });
    this.list = h('ul.list');
    this.more = h('button.more', { type: 'button', hidden: true, onclick: () => this.load(true) }, 'Show older runs');
    this.none = h('p.empty', { hidden: true });
    this.scroller = h('div.list', {}, this.list, this.none, this.more);
    this.list.className = '';
    this.news = h('span.soft');
    this.messages = h('a.messages-link', {}, 'Messages', this.news);
    this.plans = h('a.messages-link', {}, 'Plans');
    element.append(h('h1.visually-hidden', {}, 'Runs'), this.messages, this.plans, h('div.filters', {},
      h('div.segments', { role: 'group', 'aria-label': 'Filter runs' }, ...this.buttons), this.search), this.scroller);
  }

  open(project) {
    this.project = project;
    this.listed = new Map();
    this.isLoaded = false;
    this.next = undefined;
    this.state = undefined;
    this.messages.href = this.app.address({ project, isMessages: true });
    this.plans.href = this.app.address({ project, isPlans: true });
    this.hear(-this.heard);
    this.load();
  }

  /** Publishers have said so much that was not looked at. */
  hear(count) {
    this.heard += count;
    setText(this.news, this.heard > 0 ? ` ${this.heard} new` : '');
  }

  /** Asks again: something may have ended that the stream did not tell, as after a pause. */
  refresh() {
    if (this.isLoaded) this.load();
  }

  async load(isOlder = false) {
    const { project, filter } = this;
    const query = { ...(isOlder && this.next && { before: this.next }), ...(filter === 'failed' && { status: 'failed' }) };
    try {
      const { workflows, next } = await api.readRuns(project, query);
      if (project !== this.project || filter !== this.filter) return;
      for (const run of workflows) this.listed.set(run.runId, run);
      if (isOlder || !this.isLoaded) this.next = next;
      this.isLoaded = true;
      this.app.redraw();
    } catch (error) {
      this.app.refused(error);
    }
  }

  choose(name) {
    this.filter = name;
    this.buttons.forEach((button, at) => button.setAttribute('aria-pressed', String(Object.keys(FILTERS)[at] === name)));
    this.next = undefined;
    this.isLoaded = false;
    this.load();
    this.app.redraw();
  }

  /** All runs that are known, those that go on first. */
  known() {
    const runs = new Map(this.listed);
    for (const [id, run] of this.state?.runs ?? []) runs.set(id, run);
    const begun = (run) => run.createdAt ?? run.startedAt ?? '';
    return [...runs.values()].sort((a, b) => isEnded(a.status) - isEnded(b.status) || (begun(b) > begun(a) ? 1 : begun(b) < begun(a) ? -1 : 0));
  }

  /** The runs that a step has begun, as far as they are known, the oldest first. */
  begunBy(runId, stepId) {
    const all = new Map([...this.listed, ...(this.state?.runs ?? [])]);
    const begun = [...all.values()].filter(({ parent }) => parent?.runId === runId && parent.stepId === stepId);
    return begun.sort((a, b) => (a.createdAt ?? a.startedAt) < (b.createdAt ?? b.startedAt) ? -1 : 1);
  }

  newest() {
    return this.known()[0]?.runId;
  }

  /** Takes in what the stream tells, before anyone asks for the newest. */
  see(state) {
    for (const run of state.runs.values()) if (isEnded(run.status)) this.listed.set(run.runId, summary(run));
    this.state = state;
  }

  update(chosen) {
    const { isMessages = false, isPlans = false } = this.app.route;
    this.messages.setAttribute('aria-current', String(isMessages));
    this.plans.setAttribute('aria-current', String(isPlans));
    if (isMessages) this.hear(-this.heard);
    const text = this.search.value.trim().toLowerCase();
    const matches = (run) => !text || run.planName.toLowerCase().includes(text) || run.runId.toLowerCase().includes(text);
    const shown = this.known().filter((run) => filterOf[this.filter](run) && matches(run));
    const rows = shown.map((run) => this.row(run, run.runId === chosen));
    rows.forEach((row, at) => {
      if (this.list.children[at] !== row) this.list.insertBefore(row, this.list.children[at] ?? null);
    });
    while (this.list.children.length > rows.length) this.list.lastChild.remove();
    this.more.hidden = !this.next;
    this.none.hidden = shown.length > 0;
    setText(this.none, !this.isLoaded ? 'Loading' : text ? 'No run matches this name or ID.'
      : { all: 'No runs yet. “New run” starts one.', active: 'No run is active.', failed: 'No run has failed.' }[this.filter]);
    if (this.rows.size > 2 * shown.length + 100) this.rows.clear();
  }

  row(run, isChosen) {
    const known = this.rows.get(run.runId) ?? this.newRow(run);
    const { link, bars } = known;
    const isCurrent = isChosen ? 'true' : 'false';
    if (link.getAttribute('aria-current') !== isCurrent) link.setAttribute('aria-current', isCurrent);
    if (known.run === run) return known.item;
    known.run = run;
    setIcon(known.icon, waiting(run).length > 0 ? 'waiting' : run.status);
    setText(known.name, run.planName);
    bars.parentElement.hidden = isEnded(run.status);
    setBars(bars.parentElement, run.progress);
    this.tickRow(known);
    return known.item;
  }

  newRow({ runId }) {
    const parts = { icon: icon('pending'), name: h('span.name'), took: h('span.took.numbers'), when: h('span'), state: h('span') };
    const bar = progressBar();
    const link = h('a', { href: this.app.address({ project: this.project, run: runId }) },
      parts.icon, parts.name, parts.took, h('span.when', {}, parts.state, ' · ', parts.when), bar);
    const row = { ...parts, link, bars: bar.firstChild, item: h('li', {}, link) };
    this.rows.set(runId, row);
    return row;
  }

  tick() {
    for (const row of this.rows.values()) if (row.item.isConnected) this.tickRow(row);
  }

  tickRow({ run, took, when, state }) {
    const now = api.now();
    const until = run.finishedAt ? Date.parse(run.finishedAt) : now;
    const ms = run.startedAt && until - Date.parse(run.startedAt);
    setText(took, ms === undefined ? '' : run.finishedAt ? duration(ms) : ticking(ms));
    const { progress } = run;
    if (isEnded(run.status)) setText(when, ago(now - Date.parse(run.finishedAt)));
    else setText(when, `${endedSteps(progress)} of ${progress.total} steps`);
    setText(state, word(waiting(run).length > 0 ? 'waiting' : run.status));
  }
}

/** What a list holds of a run that has ended. */
function summary({ runId, planName, status, progress, createdAt, startedAt, finishedAt, error, parent }) {
  return { runId, planName, status, progress, createdAt, startedAt, finishedAt, error, parent };
}

/** How many steps have ended. What a server before said of a run that has ended counts the cancelled ones as skipped. */
export const endedSteps = ({ completed, failed, skipped, cancelled = 0 }) => completed + failed + skipped + cancelled;

/** A bar of what is completed, failed, and skipped or cancelled. The numbers stand beside it as text. */
export const progressBar = () => h('span.bar', { 'aria-hidden': 'true' }, h('i'), h('i.failed'), h('i.skipped'));

export function setBars(bar, { completed, failed, skipped, cancelled = 0, total }) {
  [completed, failed, skipped + cancelled].forEach((part, at) => {
    bar.children[at].style.width = `${total > 0 ? (part / total) * 100 : 0}%`;
  });
}
