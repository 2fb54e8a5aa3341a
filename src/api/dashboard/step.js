/** The chosen step: what it is, what became of it, what it was given, and its output. */
import { h, icon, setIcon, setText } from './dom.js';
import { clock, duration, ticking, word } from './format.js';
import { elapsed } from './estimate.js';
import { QUIET } from './graph.js';
import { OutputView } from './output.js';
import { indented, textAt } from './json.js';
import { now } from './api.js';

export class StepView {
  constructor(project, runId, app) {
    Object.assign(this, { project, runId, app, plans: new Map() });
    this.side = h('div.facts-side', { tabindex: '0', role: 'region', 'aria-label': 'About the step' });
    this.element = h('section.details', { hidden: true, 'aria-label': 'Step' }, this.side);
  }

  close() {
    this.output?.close();
  }

  setPlan({ plan, text }) {
    this.plans = new Map(plan.steps.map((step, at) => [step.id, { ...step, text: (name) => textAt(text, ['plan', 'steps', at, name]) }]));
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
    this.output.update(step);
    if (step === this.shown) return;
    this.shown = step;
    this.draw(run, step, context);
  }

  leave() {
    this.output?.close();
    Object.assign(this, { id: undefined, shown: undefined, output: undefined });
  }

  open(id) {
    this.output?.close();
    this.id = id;
    this.shown = undefined;
    this.output = new OutputView(this.project, this.runId, id, this.app);
    this.element.replaceChildren(this.side, this.output.element);
    this.side.replaceChildren();
    this.parts = undefined;
  }

  draw(run, step, context) {
    const parts = this.parts ??= this.make(run, context);
    setIcon(parts.icon, step.status);
    setText(parts.title, context.title(step));
    setText(parts.attempt, step.attempt === 0 ? 'not started' : String(step.attempt));
    setText(parts.times, timesText(step));
    parts.why.hidden = !(step.error ?? step.reason);
    setText(parts.why, step.error ?? step.reason ?? '');
    const attempts = context.attempts(step);
    parts.attempts.parentElement.hidden = attempts.length < 2;
    parts.attempts.replaceChildren(...attempts.map(attemptRow));
    this.tick(now());
  }

  make(run, { dependencies, title }) {
    const { id } = this;
    const plan = this.plans.get(id);
    const parts = { icon: icon('pending'), title: h('h2'), state: h('dd'), attempt: h('dd.numbers'), times: h('dd.numbers'), why: h('p.problem', { hidden: true, tabindex: '0' }), attempts: h('ol.attempts') };
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
        ...(before.length > 0 ? row('Waits for', h('dd', {}, ...links(before))) : []),
        ...(after.length > 0 ? row('Before', h('dd', {}, ...links(after))) : []),
        ...(plan?.conditional !== undefined ? row('Only if', h('dd', {}, h('code', {}, typeof plan.conditional === 'string' ? plan.conditional : plan.text('conditional')))) : [])),
      h('div', {}, h('h3', {}, 'Attempts'), parts.attempts),
      ...(plan?.inputs && Object.keys(plan.inputs).length > 0 ? [h('h3', {}, 'Inputs'), h('pre', { tabindex: '0', 'aria-label': 'Inputs' }, indented(plan.text('inputs')))] : []));
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
  }
}

/** What a step does, and whether it is stuck or busy. */
function stateText(step, time) {
  if (step.status === 'retrying') return `waits to retry, in ${ticking(Date.parse(step.nextRetryAt) - time)}`;
  if (step.status !== 'running') return `${word(step.status)}${step.duration === undefined ? '' : ` after ${duration(step.duration)}`}${step.continued ? ', the run went on' : ''}`;
  const quiet = time - Date.parse(step.heardAt);
  return `running for ${ticking(elapsed(step, time))}${quiet > QUIET ? `, said nothing for ${duration(quiet)}` : ''}`;
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

