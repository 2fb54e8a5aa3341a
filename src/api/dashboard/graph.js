/**
 * Steps as a graph: levels as columns (on narrow screens one below the other), and lines from each step to its dependents.
 * Only the visible part is in the page, so a plan of thousands of steps costs no more than one of fifty.
 */
import { h, icon, setIcon, setText, svg } from './dom.js';
import { HANDLERS, duration, ticking, word } from './format.js';
import { elapsed, isEnded } from './estimate.js';
import { columns, lineCount, lines, neighbour, rows, visible } from './layout.js';
import { setBars, progressBar } from './runs.js';
import { now } from './api.js';

/** Below this width levels stand one below the other. */
const NARROW = 640;

/** With more lines than this only those of the chosen step are drawn. */
const LINES_MAX = 600;

/** How far around the window nodes are made, in pixels. */
const MARGIN = 400;

/** A step that has said nothing for so long is said to be quiet, in milliseconds. */
export const QUIET = 10_000;

export class Graph {
  constructor(pane, choose) {
    Object.assign(this, { pane, choose, nodes: new Map() });
    this.paths = ['', 'critical', 'near'].map((name) => svg('path', { class: name }));
    this.edges = svg('svg', { class: 'edges', 'aria-hidden': 'true' }, ...this.paths);
    this.bands = h('div');
    this.canvas = h('div.canvas', { role: 'group', 'aria-label': 'Steps by level. Use the arrow keys to move between steps.' }, this.edges, this.bands);
    this.canvas.onkeydown = (event) => this.key(event);
    pane.addEventListener('scroll', () => this.isShown && this.fill(), { passive: true });
    addEventListener('scroll', () => this.isShown && this.fill(), { passive: true });
    addEventListener('resize', () => this.isShown && this.run && this.draw());
  }

  show() {
    this.isShown = true;
    this.pane.append(this.canvas);
  }

  hide() {
    this.isShown = false;
    this.canvas.remove();
  }

  update(run, context) {
    const hasMoved = context.chosen !== this.context?.chosen;
    Object.assign(this, { run, context, critical: new Set(context.critical.length > 1 ? context.critical : []) });
    this.draw();
    if (hasMoved && context.chosen) this.reveal(context.chosen);
  }

  draw() {
    const { run, context } = this;
    const isNarrow = innerWidth < NARROW;
    const width = isNarrow ? this.pane.clientWidth || innerWidth : 0;
    const focused = this.canvas.contains(document.activeElement) ? document.activeElement.dataset.id : undefined;
    if (this.index !== run.index || this.dependencies !== context.dependencies || this.width !== width) {
      Object.assign(this, { index: run.index, groups: groupsOf(run), dependencies: context.dependencies, width });
      const ids = this.groups.map((group) => group.ids);
      this.place(isNarrow ? rows(ids, width) : columns(ids, context.dependencies));
    }
    this.drawEdges();
    this.drawBands();
    this.fill();
    // Steps that were placed anew, as when the plan has come, leave whoever was at one of them there.
    if (focused && !this.canvas.contains(document.activeElement)) this.nodes.get(focused)?.button.focus();
  }

  place(layout) {
    this.layout = layout;
    this.canvas.className = `canvas ${layout.kind}`;
    this.canvas.style.width = `${layout.width}px`;
    this.canvas.style.height = `${layout.height}px`;
    this.edges.setAttribute('width', layout.width);
    this.edges.setAttribute('height', layout.height);
    this.edges.style.display = layout.kind === 'rows' ? 'none' : '';
    for (const { button } of this.nodes.values()) button.remove();
    this.nodes.clear();
    this.drawn = '';
    this.bands.replaceChildren(...layout.bands.map(({ level, x, y }) => {
      const band = h('p.band', {}, h('span', {}, this.groups[level].title), h('span.time.numbers'));
      band.style.transform = `translate(${x}px, ${y}px)`;
      return band;
    }));
  }

  drawEdges() {
    const { critical, chosen } = this.context;
    const drawn = `${critical.join()} ${chosen}`;
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const next = new Map(critical.map((id, at) => [id, critical[at + 1]]));
    const isFew = lineCount(this.dependencies) <= LINES_MAX;
    const wanted = [() => isFew, (from, to) => next.get(from) === to, (from, to) => from === chosen || to === chosen];
    this.paths.forEach((path, at) => path.setAttribute('d', lines(this.layout, this.dependencies, wanted[at])));
  }

  drawBands() {
    const { run } = this;
    [...this.bands.children].forEach((band, at) => {
      const { level, ids } = this.groups[at];
      const steps = ids.map((id) => run.steps[run.index.get(id)]);
      const isNow = !isEnded(run.status) && (level === undefined ? steps.some(({ status }) => status === 'running') : run.openLevels.includes(level));
      band.classList.toggle('now', isNow);
      setText(band.lastChild, isNow ? 'now' : tookText(steps));
    });
  }

  /** Makes the nodes that the window shows, and lets go of others. */
  fill() {
    if (!this.layout) return;
    const shown = new Set();
    for (const node of visible(this.layout, this.window())) {
      shown.add(node.id);
      this.fillNode(node);
    }
    for (const [id, { button }] of this.nodes) {
      if (shown.has(id) || document.activeElement === button) continue;
      button.remove();
      this.nodes.delete(id);
    }
    this.makeFocusable(shown);
  }

  window() {
    const box = this.canvas.getBoundingClientRect();
    const left = -box.left - MARGIN;
    const top = -box.top - MARGIN;
    return { left, top, right: left + innerWidth + 2 * MARGIN, bottom: top + innerHeight + 2 * MARGIN };
  }

  fillNode({ id, x, y }) {
    const step = this.run.steps[this.run.index.get(id)];
    const known = this.nodes.get(id) ?? this.newNode(id, x, y);
    const isChosen = String(id === this.context.chosen);
    if (known.button.getAttribute('aria-current') !== isChosen) known.button.setAttribute('aria-current', isChosen);
    const marks = [this.critical.has(id) && 'critical', step.reused && 'reused', step.addedIn && 'added'].filter(Boolean);
    const name = ['node', step.status, ...marks].join(' ');
    if (known.button.className !== name) known.button.className = name;
    if (known.step === step && known.titles === this.context.titles) return;
    Object.assign(known, { step, titles: this.context.titles, title: this.context.title(step) });
    setIcon(known.icon, step.status);
    setText(known.name, known.title);
    known.button.title = `${known.title} (${step.id})`;
    known.bar.hidden = !step.items || isEnded(step.status);
    if (!known.bar.hidden) setBars(known.bar, { completed: step.items.done, failed: step.items.failed, skipped: 0, total: step.items.total });
    this.tickNode(known, now());
  }

  newNode(id, x, y) {
    const parts = { icon: icon('pending'), name: h('span.name'), said: h('span.visually-hidden'), sub: h('span.sub.numbers'), bar: progressBar() };
    const button = h('button.node', { type: 'button', 'data-id': id, tabindex: '-1', onclick: () => this.choose(id) }, parts.icon, parts.name, ' ', parts.said, parts.sub, parts.bar);
    button.style.transform = `translate(${x}px, ${y}px)`;
    button.style.width = `${this.layout.size.width}px`;
    button.style.height = `${this.layout.size.height}px`;
    const node = { ...parts, button };
    this.nodes.set(id, node);
    this.canvas.append(button);
    return node;
  }

  /** One step is reached with Tab: the chosen one, the one that was left, or the first. */
  makeFocusable(shown) {
    const wanted = [this.context.chosen, this.focused, this.run.levels[0]?.[0]].find((id) => shown.has(id)) ?? [...shown][0];
    for (const [id, { button }] of this.nodes) button.tabIndex = id === wanted ? 0 : -1;
  }

  key(event) {
    const id = event.target.dataset?.id;
    if (!id || !event.key.startsWith('Arrow')) return;
    event.preventDefault();
    this.focused = neighbour(this.layout, id, event.key);
    this.reveal(this.focused);
    this.fill();
    this.nodes.get(this.focused)?.button.focus();
  }

  reveal(id) {
    const node = this.layout?.nodes.get(id);
    if (!node || !this.isShown) return;
    const { width, height } = this.layout.size;
    const { pane } = this;
    const into = (at, size, from, seen) => at < from + 40 ? at - 40 : at + size > from + seen - 40 ? at + size - seen + 40 : from;
    pane.scrollTo(into(node.x, width, pane.scrollLeft, pane.clientWidth), into(node.y, height, pane.scrollTop, pane.clientHeight));
  }

  tick(time) {
    if (!this.isShown || !this.layout) return;
    for (const node of this.nodes.values()) if (!isEnded(node.step.status) && node.step.status !== 'pending') this.tickNode(node, time);
  }

  /** Where no lines are drawn, what a step waits for is said. */
  afterText({ id }) {
    const before = this.layout.kind === 'rows' ? this.dependencies.get(id) ?? [] : [];
    if (before.length === 0) return '';
    const names = before.slice(0, 2).map((other) => this.context.titles.get(other) ?? other);
    return ` · after ${names.join(', ')}${before.length > 2 ? ` and ${before.length - 2} more` : ''}`;
  }

  tickNode({ step, sub, said }, time) {
    const text = this.layout.kind === 'dense' ? shortText(step, time) : subText(step, time) + this.afterText(step);
    setText(sub, text);
    // Where there is no room for the word, it is there for those who hear the page.
    setText(said, this.layout.kind === 'dense' ? `${word(step.status)} ` : '');
  }
}

/** The levels, and behind them a group of each kind of handler that the run has. */
function groupsOf(run) {
  const handlers = Object.entries(HANDLERS).map(([kind, title]) => ({ title, ids: run.steps.filter(({ handler }) => handler === kind).map(({ id }) => id) }));
  return [...run.levels.map((ids, level) => ({ title: `Level ${level + 1}`, level, ids })), ...handlers.filter(({ ids }) => ids.length > 0)];
}

/** What stands below a step's title. */
function subText(step, time) {
  return `${stateText(step, time)}${step.addedIn ? ' · new' : ''}`;
}

function stateText(step, time) {
  const attempt = step.attempt > 1 ? ` · attempt ${step.attempt}` : '';
  const items = step.items ? ` · ${step.items.done + step.items.failed} of ${step.items.total}` : '';
  switch (step.status) {
    case 'running': return `running ${ticking(elapsed(step, time))}${items}${attempt}${items ? '' : quietText(step, time)}`;
    case 'waiting': return `waiting for a decision${leftText(step, time)}`;
    case 'retrying': return `retries in ${ticking(Date.parse(step.nextRetryAt) - time)}`;
    case 'completed': case 'failed': case 'cancelled': {
      const word = step.reused ? 'reused' : step.status;
      return `${word}${step.duration === undefined ? '' : ` · ${duration(step.duration)}`}${items}${attempt}`;
    }
    default: return step.status;
  }
}

function shortText(step, time) {
  switch (step.status) {
    case 'running': return step.items ? `${step.items.done + step.items.failed}/${step.items.total}` : ticking(elapsed(step, time));
    case 'waiting': return 'waits';
    case 'retrying': return 'retries';
    case 'completed': return step.reused ? 'reused' : duration(step.duration);
    case 'pending': return '';
    default: return step.status;
  }
}

/** How long one may still decide. */
function leftText({ approval }, time) {
  const ms = Date.parse(approval?.expiresAt) - time;
  return ms > 0 ? ` · ${ticking(ms)}` : '';
}

/** Busy or stuck? How long a step has said nothing. */
function quietText(step, time) {
  const quiet = time - Date.parse(step.heardAt);
  return quiet > QUIET ? ` · quiet ${duration(quiet)}` : '';
}

/** How long the steps of a level took, once all of them have ended. */
function tookText(steps) {
  const starts = steps.map(({ startedAt }) => Date.parse(startedAt)).filter(Number.isFinite);
  const ends = steps.map(({ finishedAt }) => Date.parse(finishedAt)).filter(Number.isFinite);
  const hasEnded = steps.every(({ status }) => isEnded(status));
  return hasEnded && starts.length > 0 ? duration(Math.max(...ends) - Math.min(...starts)) : '';
}
