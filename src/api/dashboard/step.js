/** The selected step: its description, state and inputs, and its output or its question. */
import { h, icon, setIcon, setText } from './dom.js';
import { HANDLERS, clock, decisionText, duration, ticking, usageText, word } from './format.js';
import { elapsed } from './estimate.js';
import { QUIET } from './graph.js';
import { OutputView } from './output.js';
import { indented, textAt } from './json.js';
import { now } from './api.js';

export class StepView {
  constructor(project, runId, app) {
    Object.assign(this, { project, runId, app, plans: new Map(), asked: new Map() });
    this.side = h('div.facts-side', { tabindex: '0', role: 'region', 'aria-label': 'Step details' });
    this.element = h('section.details', { hidden: true, 'aria-label': 'Step' }, this.side);
  }

  close() {
    this.output?.close();
    this.items?.close();
  }

  setPlan({ plan, text }) {
    const lists = [...Object.keys(HANDLERS).flatMap((kind) => [[kind], ['handlers', kind]]), ['steps']];
    const placed = lists.flatMap((keys) => {
      const steps = keys.reduce((inner, key) => inner?.[key], plan);
      return Array.isArray(steps) ? steps.map((step, at) => [step.id, { ...step, text: (name) => textAt(text, ['plan', ...keys, at, name]) }]) : [];
    });
    this.plans = new Map(placed);
    this.shown = this.parts = undefined;
  }

  /** What is told of the step has changed, though the step has not. */
  redraw() {
    this.shown = undefined;
  }

  update(run, id, context) {
    const at = id === undefined ? undefined : run.index.get(id);
    this.element.hidden = at === undefined;
    if (at === undefined) return this.leave();
    const step = run.steps[at];
    if (id !== this.id) this.open(id);
    this.step = step;
    this.place();
    if (step !== this.shown) {
      this.shown = step;
      this.draw(run, step, context);
    }
    this.count();
    this.drawBegun(step);
  }

  leave() {
    this.close();
    Object.assign(this, { id: undefined, shown: undefined, output: undefined, items: undefined, beside: undefined });
  }

  open(id) {
    this.leave();
    Object.assign(this, { id, looked: undefined, parts: undefined });
    this.side.replaceChildren();
  }

  /** Beside the facts stands what the step asks, else its items, else an output: that of the step, or of one of the items. */
  place() {
    const { step } = this;
    const beside = this.ask(step) ?? this.list(step) ?? this.outputOf(step);
    if (beside === this.beside) return;
    const hadFocus = this.beside?.element.contains(document.activeElement);
    this.element.replaceChildren(this.side, ...(beside ? [beside.element] : []));
    this.beside = beside;
    beside?.tick?.(now());
    if (hadFocus) this.side.focus();
  }

  /** What a step asks while it waits. What is filled in stays where one looks elsewhere. */
  ask(step) {
    const isWaiting = step.status === 'waiting' && step.approval;
    const ApprovalView = isWaiting && this.app.part('approval')?.ApprovalView;
    if (ApprovalView && !this.asked.get(step.id)?.isOf(step)) this.asked.set(step.id, new ApprovalView(this.project, this.runId, step, this.app));
    if (!isWaiting) this.asked.delete(step.id);
    return this.asked.get(step.id);
  }

  /** The items of a step that has some, as long as no output is looked at. */
  list(step) {
    const ItemsView = step.items && this.app.part('items')?.ItemsView;
    if (!ItemsView) return undefined;
    this.items ??= new ItemsView(this.project, this.runId, step.id, { app: this.app, look: (item) => this.look(item), onRead: () => this.place() });
    this.items.update(step);
    return this.looked === undefined ? this.items : undefined;
  }

  /** Shows the output of an item, or of the whole step; `null` shows the items again. */
  look(item = 'all') {
    const before = this.looked;
    this.output?.close();
    this.output = undefined;
    this.looked = item ?? undefined;
    this.place();
    if (this.looked === undefined) this.items.focus(before);
    else this.output.focus();
  }

  outputOf(step) {
    if (step.items && !this.items) return undefined;
    const item = this.looked === 'all' ? undefined : this.looked;
    const back = this.looked === undefined ? undefined : () => this.look(null);
    this.output ??= new OutputView(this.project, this.runId, step.id, this.app, { item, back });
    // An item moves within its step: that the step was heard of means that there may be more of it, too.
    const moved = item === undefined ? step : this.items.stateOf(item) ?? this.output.step;
    this.output.update(item === undefined ? step : { ...moved, heardAt: this.items.readAt });
    return this.output;
  }

  draw(run, step, context) {
    const parts = this.parts ??= this.make(run, context);
    setIcon(parts.icon, step.status);
    setText(parts.title, context.title(step));
    setText(parts.attempt, step.attempt === 0 ? 'not started' : String(step.attempt));
    setText(parts.times, timesText(step));
    parts.why.hidden = !(step.error ?? step.reason);
    setText(parts.why, step.error ?? step.reason ?? '');
    this.drawFacts(step);
    const attempts = context.attempts(step);
    parts.attempts.parentElement.hidden = attempts.length < 2;
    parts.attempts.replaceChildren(...attempts.map(attemptRow));
    this.tick(now());
  }

  /** What only some steps have. */
  drawFacts(step) {
    const { facts } = this.parts;
    const said = [
      step.handler && ['Runs', HANDLERS[step.handler] ?? step.handler],
      step.decision && ['Decision', decisionText(step.decision)],
      step.reused && ['Output', 'reused from the earlier run'],
      step.addedIn && ['Added', `in revision ${step.addedIn} of the plan`],
      step.usage && ['Usage', usageText(step.usage)],
    ].filter(Boolean);
    facts.hidden = said.length === 0;
    facts.replaceChildren(...said.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
  }

  /** The runs that the step has begun: one for each attempt. */
  drawBegun(step) {
    const { begun } = this.parts;
    if (this.plans.get(step.id)?.tool !== 'plan') return;
    const known = this.app.begunBy(this.runId, step.id);
    const told = step.output?.runId;
    const all = told === undefined || known.some(({ runId }) => runId === told) ? known : [...known, { runId: told, planName: told, status: step.status }];
    const drawn = all.map(({ runId, status }) => `${runId} ${status}`).join();
    if (begun.dataset.drawn === drawn) return;
    begun.dataset.drawn = drawn;
    begun.hidden = all.length === 0;
    const link = ({ runId, planName, status }) => h('dd', {}, h('a', { href: this.app.address({ project: this.project, run: runId }) }, planName), ` ${word(status)}`);
    begun.replaceChildren(...all.flatMap((run) => [h('dt', {}, 'Started run'), link(run)]));
  }

  /** How far it is with each of a list. */
  count() {
    const { items, parts } = this;
    if (items && parts && !parts.items.contains(items.summary)) parts.items.replaceChildren(items.summary);
  }

  make(run, { dependencies, title }) {
    const { id } = this;
    const plan = this.plans.get(id);
    const parts = { icon: icon('pending'), title: h('h2'), state: h('dd'), attempt: h('dd.numbers'), times: h('dd.numbers'), why: h('p.problem', { hidden: true, tabindex: '0' }), attempts: h('ol.attempts'), facts: h('dl.table', { hidden: true }), begun: h('dl.table', { hidden: true }), items: h('div') };
    const before = dependencies.get(id) ?? [];
    const after = [...dependencies].filter(([, others]) => others.includes(id)).map(([other]) => other);
    const links = (ids) => ids.flatMap((other, at) => [at > 0 ? ', ' : '', this.link(title(run.steps[run.index.get(other)] ?? { id: other, title: other }), other)]);
    const row = (name, ...value) => [h('dt', {}, name), ...value];
    this.side.replaceChildren(
      h('div.step-head', {}, parts.icon, parts.title,
        h('button.plain', { type: 'button', 'aria-label': 'Close the step', onclick: () => this.app.go({ step: undefined }) }, 'Close')),
      plan?.description && h('p.description', {}, plan.description),
      parts.why,
      h('dl.table', {}, ...row('State', parts.state), ...row('Attempt', parts.attempt), ...row('Time', parts.times),
        ...row('Step', h('dd', {}, h('code', {}, id))), ...(plan ? row('Tool', h('dd', {}, h('code', {}, plan.tool))) : []),
        ...(before.length > 0 ? row('Depends on', h('dd', {}, ...links(before))) : []),
        ...(after.length > 0 ? row('Required by', h('dd', {}, ...links(after))) : []),
        ...(plan?.conditional !== undefined ? row('Only if', h('dd', {}, h('code', {}, typeof plan.conditional === 'string' ? plan.conditional : plan.text('conditional')))) : [])),
      parts.facts, parts.begun, parts.items,
      h('div', {}, h('h3', {}, 'Attempts'), parts.attempts),
      ...(plan?.inputs && Object.keys(plan.inputs).length > 0 ? [h('div.inputs', {}, h('h3', {}, 'Inputs'), h('pre', { tabindex: '0', 'aria-label': 'Inputs' }, indented(plan.text('inputs'))))] : []));
    for (const empty of [...this.side.childNodes]) if (empty.nodeType === Node.TEXT_NODE) empty.remove();
    return parts;
  }

  link(title, id) {
    return h('button', { type: 'button', onclick: () => this.app.go({ run: this.runId, step: id }) }, title);
  }

  tick(time) {
    const { shown: step, parts } = this;
    if (!step || !parts) return;
    setText(parts.state, stateText(step, time));
    this.beside?.tick?.(time);
  }
}

/** What a step does, and whether it is stuck or busy. */
function stateText(step, time) {
  if (step.status === 'retrying') return `retrying in ${ticking(Date.parse(step.nextRetryAt) - time)}`;
  if (step.status === 'waiting') return `waiting for a decision for ${ticking(elapsed(step, time))}`;
  if (step.status !== 'running') return `${word(step.status)}${step.duration === undefined ? '' : ` after ${duration(step.duration)}`}${step.continued ? ', the run continued' : ''}`;
  const quiet = time - Date.parse(step.heardAt);
  return `running for ${ticking(elapsed(step, time))}${quiet > QUIET && !step.items ? `, no output for ${duration(quiet)}` : ''}`;
}

function timesText({ startedAt, finishedAt }) {
  if (!startedAt) return finishedAt ? `decided ${clock(finishedAt)}` : 'not started';
  return finishedAt ? `${clock(startedAt)} to ${clock(finishedAt)}` : `since ${clock(startedAt)}`;
}

function attemptRow({ attempt, startedAt, endedAt, outcome }) {
  const status = outcome === 'interrupted' ? 'cancelled' : outcome ?? 'running';
  const took = endedAt ? duration(Date.parse(endedAt) - Date.parse(startedAt)) : '';
  return h('li', {}, icon(status), h('span', {}, `${attempt}. ${outcome ?? 'running'}`), h('span.soft.numbers', {}, took));
}

