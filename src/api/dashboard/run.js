/**
 * A run: its head, its steps as a graph or a timeline, and the selected step. Owns what the stream does not contain: the plan,
 * and the durations of earlier runs of the same plan.
 */
import * as api from './api.js';
import { runOfView, fold, emptyState } from '/stepcast.js';
import { h, icon, setIcon, setText } from './dom.js';
import { HANDLERS, budgetText, count, duration, moment, remaining as leftText, ticking, usageText, word } from './format.js';
import { criticalPath, expectations, isEnded, remaining, waiting } from './estimate.js';
import { Graph } from './graph.js';
import { Timeline } from './timeline.js';
import { endedSteps, progressBar, setBars } from './runs.js';

/** Messages of a run that are read to know its attempts: pages of a thousand. */
const EVENT_PAGES_MAX = 5;

/** A run that could not be read is asked for again after so many milliseconds at the earliest. */
const READ_INTERVAL = 3_000;

/** Steps that wait for a decision, and are named in a run's head. */
const WAITS_SHOWN = 3;

/** How steps can be shown. */
const VIEWS = { graph: 'Graph', timeline: 'Timeline' };

export class RunView {
  constructor(project, runId, app) {
    Object.assign(this, { project, runId, app, dependencies: new Map(), titles: new Map(), attempts: new Map(), expected: new Map(), kind: 'graph' });
    this.head = this.makeHead();
    this.pane = h('div.pane', { id: 'pane', role: 'tabpanel', tabindex: '-1' });
    const choose = (step) => app.go({ run: runId, step });
    this.views = { graph: new Graph(this.pane, choose), timeline: new Timeline(this.pane, choose) };
    this.element = h('section.run', { 'aria-label': 'Run' }, this.head, this.pane);
    this.show('graph');
  }

  close() {
    this.isClosed = true;
    this.step?.close();
  }

  makeHead() {
    const parts = this.parts = {
      icon: icon('pending'), name: h('h1'), state: h('span.state'), steps: h('span.numbers'), took: h('span.numbers'), left: h('span.numbers'), began: h('span.numbers'), usage: h('span.numbers'), revision: h('span.numbers'), from: h('span'),
      waits: h('ul.waits', { hidden: true, 'aria-label': 'Waiting for a decision' }),
      bar: progressBar(), problem: h('p.problem', { hidden: true, tabindex: '0' }),
      cancel: h('button.danger', { type: 'button', onclick: () => this.cancel() }, 'Cancel'),
      edit: h('a.button', { hidden: true, href: this.app.address({ project: this.project, isNew: true, again: this.runId }) }, 'Edit'),
      again: h('button', { type: 'button', onclick: () => this.again() }, 'Run again'),
      retry: h('button', { type: 'button', hidden: true, title: 'Start a new run that reuses the completed steps', onclick: () => this.retry() }, 'Retry from the failure'),
    };
    parts.tabs = Object.entries(VIEWS).map(([name, text]) =>
      h('button', { type: 'button', role: 'tab', id: `tab-${name}`, 'aria-controls': 'pane', onclick: () => this.show(name), onkeydown: (event) => this.tabKey(event) }, text));
    parts.legend = h('span.legend', { hidden: true }, h('i', { 'aria-hidden': 'true' }), 'critical path');
    return h('div.run-head', {},
      h('div.title-row', {}, parts.icon,
        h('div.titles', {}, parts.name, h('p.facts', {}, parts.state, parts.steps, parts.took, parts.left, parts.began, parts.usage, parts.revision, parts.from)),
        h('a.button.back', { href: this.app.address({ project: this.project }) }, 'All runs'), parts.cancel, parts.edit, parts.again, parts.retry),
      parts.bar, parts.waits, parts.problem,
      h('div.tabs', {}, h('div', { role: 'tablist', 'aria-label': 'View of the steps' }, ...parts.tabs), parts.legend));
  }

  tabKey(event) {
    if (event.key !== 'ArrowRight' && event.key !== 'ArrowLeft') return;
    const other = this.parts.tabs.find((tab) => tab !== event.target);
    other.focus();
    other.click();
  }

  show(kind) {
    this.kind = kind;
    this.parts.tabs.forEach((tab) => {
      const isChosen = tab.id === `tab-${kind}`;
      tab.setAttribute('aria-selected', String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
    });
    this.pane.setAttribute('aria-labelledby', `tab-${kind}`);
    for (const view of Object.values(this.views)) view.hide();
    this.views[kind].show();
    this.draw();
  }

  /** Reads the plan, and reads it again where it has changed since. */
  async loadPlan() {
    const isNew = (this.run?.revision ?? 1) > (this.revision ?? 1);
    if ((this.document && !isNew) || this.isPlanless || performance.now() - this.plannedAt < READ_INTERVAL) return;
    this.plannedAt = performance.now();
    const revision = this.run?.revision ?? 1;
    try {
      this.document = await api.readPlan(this.project, this.runId);
      this.revision = this.document.revision ?? revision;
      const plan = this.plan = this.document.plan;
      const steps = [...plan.steps, ...handlersOf(plan)];
      this.dependencies = new Map(steps.map((step) => [step.id, [...new Set(step.dependencies ?? [])]]));
      this.titles = new Map(steps.filter(({ title }) => title?.trim()).map(({ id, title }) => [id, title]));
      this.expected = expectations(plan);
      this.step?.setPlan(this.document);
      this.draw();
      await this.loadEarlier();
    } catch (error) {
      this.isPlanless = error.status === 404;
      if (!this.isClosed && !this.isPlanless) this.app.refused(error);
    }
  }

  /** How long the steps took in the newest run of the same plan that completed. */
  async loadEarlier() {
    const { workflows } = await api.readRuns(this.project, { status: 'completed' });
    const earlier = workflows.find(({ runId, planName }) => runId !== this.runId && planName === this.plan.name);
    if (!earlier || this.isClosed) return;
    this.expected = expectations(this.plan, await api.readRun(this.project, earlier.runId));
    this.draw();
  }

  /** The run as the server has it, where the stream does not tell it: it ended before anyone looked. */
  async loadRun() {
    if (this.isLoading || performance.now() - this.triedAt < READ_INTERVAL) return;
    this.isLoading = true;
    this.triedAt = performance.now();
    try {
      const view = await api.readRun(this.project, this.runId);
      if (!this.streamed) this.read = runOfView(view);
      this.draw();
    } catch (error) {
      if (error.status === 404) this.missing(error.message);
      else if (!this.isClosed) this.app.refused(error);
    }
    this.isLoading = false;
  }

  /** A state tells the newest attempt alone; the messages tell them all. Once is enough: later ones are streamed. */
  async loadAttempts() {
    if (this.hasAttempts) return;
    this.hasAttempts = true;
    let state = emptyState(this.project);
    for (let page = 0, after; page < EVENT_PAGES_MAX; page++) {
      const { events, next } = await api.readEvents(this.project, this.runId, after).catch(() => ({ events: [] }));
      state = events.reduce(fold, state);
      if (!next || this.isClosed) break;
      after = next;
    }
    const told = state.runs.get(this.runId);
    if (!told || this.isClosed) return;
    this.attempts = new Map(told.steps.map((step) => [step.id, step.attempts]));
    if (this.read) this.read = { ...this.read, criticalPath: told.criticalPath };
    this.step?.redraw();
    this.draw();
  }

  missing(text) {
    this.element.replaceChildren(h('section.welcome', {}, h('h1', {}, 'Run not found'), h('p.soft', {}, `The server says: ${text}. Old runs are deleted after a while.`)));
  }

  update(state, stepId) {
    this.streamed = state.runs.get(this.runId);
    this.stepId = stepId;
    if (state.connection?.status === 'live') this.loadPlan();
    const isKnown = this.streamed || (this.read && isEnded(this.read.status));
    if (!isKnown && state.connection?.status === 'live') this.loadRun();
    this.draw();
  }

  /** The run as it is known. What was read is worth more only where it tells attempts that the stream did not. */
  get run() {
    return this.streamed ?? this.read;
  }

  draw() {
    const { run } = this;
    if (!run) return;
    this.drawHead(run);
    const critical = this.critical(run);
    this.parts.legend.hidden = critical.length < 2 || this.kind !== 'graph';
    const title = (step) => this.titles.get(step.id) ?? step.title;
    const attempts = (step) => mergeAttempts(this.attempts.get(step.id), step.attempts);
    // The step takes its room before the others look for theirs.
    const stepView = this.openStep();
    const context = { dependencies: this.dependencies, titles: this.titles, title, attempts, critical, chosen: stepView && this.stepId };
    stepView?.update(run, this.stepId, context);
    this.views[this.kind].update(run, context);
    if (run.steps.some((step) => step.attempt > step.attempts.length)) this.loadAttempts();
  }

  /** The view of the chosen step, which is loaded when one is first chosen. */
  openStep() {
    const StepView = this.stepId !== undefined && this.app.part('step')?.StepView;
    if (StepView && !this.step) {
      this.step = new StepView(this.project, this.runId, this.app);
      this.element.append(this.step.element);
      if (this.document) this.step.setPlan(this.document);
    }
    return this.step;
  }

  critical(run) {
    if (run.criticalPath) return run.criticalPath;
    return this.dependencies.size > 0 ? criticalPath(run, this.dependencies, this.expected, api.now()) : [];
  }

  drawHead(run) {
    const { parts } = this;
    setIcon(parts.icon, run.status);
    setText(parts.name, run.planName);
    setText(parts.state, word(run.status));
    parts.state.className = `state ${run.status}`;
    setText(parts.steps, stepsText(run.progress));
    setText(parts.began, run.startedAt ? `started ${moment(run.startedAt, api.now())}` : 'queued');
    setText(parts.usage, [run.usage && usageText(run.usage), budgetText(this.plan?.budget)].filter(Boolean).join(', '));
    setText(parts.revision, run.revision > 1 ? `revision ${run.revision} of the plan` : '');
    this.drawFrom(run);
    this.drawWaits(run);
    setBars(parts.bar, run.progress);
    parts.problem.hidden = !run.error;
    setText(parts.problem, run.error ?? '');
    parts.cancel.hidden = isEnded(run.status) || !api.may('run');
    parts.again.hidden = !isEnded(run.status) || !api.may('run');
    parts.edit.hidden = parts.again.hidden || !this.plan;
    parts.retry.hidden = parts.again.hidden || run.status === 'completed';
    this.tick();
  }

  /** The run that this one goes on from, and the one whose step began it. */
  drawFrom({ retryOf, parent }) {
    const { from } = this.parts;
    const drawn = `${retryOf} ${parent?.runId}`;
    if (from.dataset.drawn === drawn) return;
    from.dataset.drawn = drawn;
    const link = (run, step, text) => h('a', { href: this.app.address({ project: this.project, run, step }) }, text);
    from.replaceChildren(...(retryOf ? ['retry of ', link(retryOf, undefined, 'an earlier run'), ' '] : []),
      ...(parent ? ['started by ', link(parent.runId, parent.stepId, `step ${parent.stepId} of another run`)] : []));
  }

  /** Whoever looks at the run is shown first what it waits for. */
  drawWaits(run) {
    const { waits } = this.parts;
    const steps = waiting(run).filter(({ id }) => id !== this.stepId);
    const drawn = JSON.stringify(steps.map(({ id, title, approval }) => [id, title, approval?.message]));
    waits.hidden = steps.length === 0;
    if (waits.dataset.drawn === drawn) return;
    waits.dataset.drawn = drawn;
    const row = (step) => h('li', {}, icon('waiting'), h('span', {}, h('strong', {}, this.titles.get(step.id) ?? step.title), step.approval?.message ? `: ${step.approval.message}` : ''),
      h('a.button', { href: this.app.address({ project: this.project, run: this.runId, step: step.id }) }, api.mayDecide(step.approval) ? 'Decide' : 'Look', h('span.visually-hidden', {}, `: ${step.title}`)));
    waits.replaceChildren(...steps.slice(0, WAITS_SHOWN).map(row),
      ...(steps.length > WAITS_SHOWN ? [h('li.soft', {}, `and ${count(steps.length - WAITS_SHOWN, 'more step')}`)] : []));
  }

  tick() {
    const { run, parts } = this;
    if (!run) return;
    const now = api.now();
    const until = run.finishedAt ? Date.parse(run.finishedAt) : now;
    const took = run.startedAt ? until - Date.parse(run.startedAt) : undefined;
    setText(parts.took, took === undefined ? '' : run.finishedAt ? `took ${duration(took)}` : `for ${ticking(took)}`);
    const left = isEnded(run.status) ? undefined : remaining(run, this.expected, now, this.dependencies);
    setText(parts.left, left === undefined ? '' : leftText(left));
    this.views[this.kind].tick(now);
    this.step?.tick(now);
  }

  async cancel() {
    const { cancel } = this.parts;
    cancel.disabled = true;
    setText(cancel, 'Cancelling');
    try {
      await api.cancel(this.project, this.runId);
      this.app.say('Cancellation requested');
    } catch (error) {
      this.app.refused(error);
      cancel.disabled = false;
      setText(cancel, 'Cancel');
    }
  }

  /** The same plan once more. Pressed twice it runs once: an answer that was lost is asked for again. */
  async again() {
    // Whoever may choose what goes in is asked.
    if (this.plan?.parameters) return this.app.go({ isNew: true, again: this.runId });
    this.key ??= api.newKey();
    this.parts.again.disabled = true;
    try {
      const { runId } = await api.rerun(this.project, this.runId, this.key);
      this.key = undefined;
      this.app.go({ run: runId, step: undefined });
    } catch (error) {
      this.app.refused(error);
    }
    this.parts.again.disabled = false;
  }

  /** Goes on in a new run. Pressed twice it is one. */
  async retry() {
    this.retryKey ??= api.newKey();
    this.parts.retry.disabled = true;
    try {
      const { runId } = await api.retry(this.project, this.runId, this.retryKey);
      this.retryKey = undefined;
      this.app.go({ run: runId, step: undefined });
    } catch (error) {
      this.app.refused(error);
    }
    this.parts.retry.disabled = false;
  }
}

/** The steps of a plan that run behind its levels. */
export function handlersOf(plan) {
  const lists = { ...plan, ...plan.handlers };
  return Object.keys(HANDLERS).flatMap((kind) => Array.isArray(lists[kind]) ? lists[kind] : []);
}

/** All attempts that are known of a step: `told` by messages that were read, and `seen` since. */
export function mergeAttempts(told, seen) {
  if (!told) return seen;
  const merged = new Map(told.map((one) => [one.attempt, one]));
  for (const one of seen) {
    const known = merged.get(one.attempt);
    if (!known) merged.set(one.attempt, one);
    else if (one.endedAt && !known.endedAt) merged.set(one.attempt, { ...one, startedAt: known.startedAt });
  }
  return [...merged.values()].sort((a, b) => a.attempt - b.attempt);
}

/** `7 of 11 steps, 1 failed`. */
function stepsText(progress) {
  const { total } = progress;
  const parts = ['failed', 'skipped', 'cancelled'].filter((end) => progress[end] > 0).map((end) => `, ${progress[end]} ${end}`);
  return `${endedSteps(progress)} of ${total} step${total === 1 ? '' : 's'}${parts.join('')}`;
}
