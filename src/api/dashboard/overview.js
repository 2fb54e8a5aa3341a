/** All projects with their active runs. Only owns its elements: the data comes from the list and the stream. */
import * as api from './api.js';
import { h, icon, setIcon, setText } from './dom.js';
import { isEnded } from './estimate.js';
import { ago, count, duration, ticking, word } from './format.js';
import { ordered } from './glance.js';
import { endedSteps, progressBar, setBars } from './runs.js';

/** Projects that are shown at first, and with each wish for more. */
const SHOWN = 32;

export class OverviewView {
  constructor(app) {
    Object.assign(this, { app, cards: new Map(), known: new Set(), shown: SHOWN });
    this.title = h('h1', {}, 'Projects');
    this.sum = h('p.soft', {});
    this.list = h('ul.cards');
    this.more = h('button', { type: 'button', hidden: true, onclick: () => this.showMore() }, 'Show more projects');
    this.note = h('p.soft', { hidden: true });
    this.element = h('section.overview', { 'aria-label': 'Projects' }, h('div', {}, this.title, this.sum), this.list, this.note, this.more);
  }

  showMore() {
    this.shown += SHOWN;
    this.app.redraw();
  }

  /** @param {{projectId, activeRuns, lastActivity}[]} projects @param {Map} glances of those that are followed */
  update(projects, glances) {
    const all = ordered(projects, glances, this.known);
    // Who was here keeps its place.
    for (const { projectId } of all) this.known.add(projectId);
    const rows = all.slice(0, this.shown).map((project) => this.card(project, glances.get(project.projectId)).item);
    rows.forEach((row, at) => {
      if (this.list.children[at] !== row) this.list.insertBefore(row, this.list.children[at] ?? null);
    });
    while (this.list.children.length > rows.length) this.list.lastChild.remove();
    const active = all.reduce((sum, one) => sum + activeIn(one, glances.get(one.projectId)), 0);
    const waits = [...glances.values()].reduce((sum, glance) => sum + (glance.waits ?? 0), 0);
    const asked = waits > 0 ? `, ${count(waits, 'step')} waiting for a decision` : '';
    setText(this.sum, `${count(all.length, 'project')}, ${active > 0 ? `${count(active, 'run')} active` : 'no active runs'}${asked}`);
    this.note.hidden = glances.size === 0 || all.length <= glances.size;
    setText(this.note, `${count(glances.size, 'project')} are updated live: those with active runs and the most recently active ones. The others are refreshed every few seconds.`);
    this.more.hidden = all.length <= this.shown;
  }

  card(project, glance) {
    const { projectId } = project;
    const card = this.cards.get(projectId) ?? this.newCard(projectId);
    card.project = project;
    const wanted = glance?.runs ?? [];
    if (card.runs !== wanted) this.fill(card, wanted);
    card.glance = glance;
    this.tickCard(card);
    return card;
  }

  newCard(projectId) {
    const parts = { state: h('span'), rows: [], list: h('ul') };
    const name = h('a', { href: this.app.address({ project: projectId, run: undefined, step: undefined }) }, projectId);
    const card = { ...parts, item: h('li.card', {}, h('h2', {}, name), h('p.soft', {}, parts.state), parts.list) };
    this.cards.set(projectId, card);
    return card;
  }

  /** The runs of a card; a row that stays a run's keeps the focus. */
  fill(card, runs) {
    const before = new Map(card.rows.map((row) => [row.run.runId, row]));
    card.rows = runs.map((run) => before.get(run.runId) ?? this.newRow(card, run));
    card.rows.forEach((row, at) => { row.run = runs[at]; });
    card.runs = runs;
    if (card.rows.some(({ item }, at) => card.list.children[at] !== item) || card.list.children.length !== card.rows.length) {
      card.list.replaceChildren(...card.rows.map(({ item }) => item));
    }
    for (const row of card.rows) this.showRun(row);
  }

  newRow(card, { runId }) {
    const parts = { icon: icon('pending'), name: h('span.name'), took: h('span.took.numbers'), says: h('span.when') };
    const bar = progressBar();
    const href = this.app.address({ project: card.item.querySelector('a').textContent, run: runId });
    return { ...parts, bar, item: h('li', {}, h('a', { href }, parts.icon, parts.name, parts.took, parts.says, bar)) };
  }

  showRun({ run, icon: symbol, name, says, bar }) {
    const asks = run.waits ?? [];
    setIcon(symbol, asks.length > 0 ? 'waiting' : run.status);
    setText(name, run.planName);
    bar.hidden = isEnded(run.status);
    setBars(bar, run.progress);
    const steps = `${endedSteps(run.progress)} of ${count(run.progress.total, 'step')}`;
    const more = isEnded(run.status) ? run.error : [...asks.map(({ title }) => title), run.doing].filter(Boolean).join(', ');
    setText(says, [word(asks.length > 0 ? 'waiting' : run.status), steps, more].filter(Boolean).join(' · '));
  }

  tick() {
    for (const card of this.cards.values()) if (card.item.isConnected) this.tickCard(card);
  }

  tickCard({ project, glance, rows, state }) {
    const now = api.now();
    const active = activeIn(project, glance);
    const hidden = active - rows.filter(({ run }) => !isEnded(run.status)).length;
    const said = glance?.denied ? `no access: ${glance.denied}`
      : active > 0 ? `${count(active, 'run')} active${hidden > 0 && rows.length > 0 ? `, ${hidden} not shown here` : ''}`
      : `no active runs · last message ${ago(now - Date.parse(project.lastActivity))}`;
    setText(state, said);
    for (const { run, took } of rows) {
      const ms = run.startedAt && (run.finishedAt ? Date.parse(run.finishedAt) : now) - Date.parse(run.startedAt);
      setText(took, ms === undefined ? '' : run.finishedAt ? duration(ms) : ticking(ms));
    }
  }
}

const activeIn = ({ activeRuns }, glance) => glance?.active ?? activeRuns;
