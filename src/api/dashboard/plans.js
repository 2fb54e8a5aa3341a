/**
 * The stored plans of a project: their schedules, the results of their last runs, and a button to run them, with a form if the
 * plan declares parameters.
 */
import * as api from './api.js';
import { h } from './dom.js';
import { Form } from './form.js';
import { ago, count, moment, word } from './format.js';
import { withValue } from './json.js';

/** How often the list is asked for anew, in milliseconds: what runs is told by the stream, what fires is not. */
const INTERVAL = 5_000;

const OVERLAP = { skip: 'skipped while a run is active', queue: 'queued while a run is active', cancel: 'cancels the active run' };

/** Is a zone the one that this page shows its times in? */
const isLocal = (timeZone) => timeZone === Intl.DateTimeFormat().resolvedOptions().timeZone;

export class PlansView {
  constructor(project, app) {
    Object.assign(this, { project, app, isPlans: true, keys: new Map() });
    this.list = h('ul.cards');
    this.note = h('p.soft', { role: 'status' }, 'Loading');
    this.element = h('section.overview', { 'aria-label': 'Stored plans' },
      h('div', {}, h('h1', {}, `Plans stored in ${project}`), this.note), this.list);
    this.timer = setInterval(() => { if (!document.hidden && !this.isFilledIn) this.load(); }, INTERVAL);
    this.load();
  }

  close() {
    clearInterval(this.timer);
    this.isClosed = true;
  }

  async load() {
    try {
      const { plans } = await (await api.request(this.path('plans'))).json();
      if (!this.isClosed) this.show(plans);
    } catch (error) {
      this.app.refused(error);
    }
  }

  path(rest) {
    return `/api/projects/${encodeURIComponent(this.project)}/${rest}`;
  }

  show(plans) {
    // Whoever is about to press a button is not to lose it.
    const focused = document.activeElement?.dataset?.button;
    this.note.textContent = plans.length > 0 ? count(plans.length, 'plan')
      : 'No stored plans. Store one with PUT …/plans/NAME; a plan with a schedule runs automatically.';
    this.list.replaceChildren(...plans.map((plan) => this.card(plan)));
    if (focused) this.list.querySelector(`[data-button="${CSS.escape(focused)}"]`)?.focus();
  }

  card(plan) {
    const { name, planName, description, steps, schedule, firings } = plan;
    const run = h('button', { type: 'button', 'data-button': `run ${name}`, onclick: () => this.run(name, run) }, 'Run');
    const toggle = schedule && h('button', { type: 'button', 'data-button': `toggle ${name}`, onclick: () => this.enable(name, !schedule.enabled, toggle) },
      schedule.enabled ? 'Pause the schedule' : 'Resume the schedule');
    const lines = [description, `${planName} · ${count(steps, 'step')}`, ...this.scheduled(schedule, firings)];
    return h('li.card', {}, h('h2', {}, name), ...lines.filter(Boolean).map((line) => h('p.soft', {}, line)),
      this.lastRun(plan.lastRun), api.may('run') && h('div.actions', {}, run, toggle));
  }

  /** What is said of a schedule. */
  scheduled(schedule, firings) {
    if (!schedule) return [];
    const now = api.now();
    const times = firings.next.map((time) => moment(time, now)).join(' · ');
    return [
      `${schedule.cron} (${schedule.timeZone}), ${OVERLAP[schedule.overlap]}`,
      schedule.enabled ? times && `Next${isLocal(schedule.timeZone) ? '' : ' (your time)'}: ${times}` : 'The schedule is paused.',
      firings.waiting && `${count(firings.waiting.length, 'firing')} waiting`,
      firings.lastFired && `Last fired: ${moment(firings.lastFired, now)}`,
      firings.lastSkipped && `Last skipped: ${moment(firings.lastSkipped, now)}`,
      firings.lastMissed && `Last missed: ${moment(firings.lastMissed, now)}`,
      firings.lastError,
    ];
  }

  lastRun(run) {
    if (!run) return h('p.soft', {}, 'Not run yet, or its last run has been deleted.');
    const href = this.app.address({ project: this.project, run: run.runId });
    const when = ago(api.now() - Date.parse(run.finishedAt ?? run.createdAt));
    return h('p', {}, h('a', { href }, `Last run: ${word(run.status)}`), ` · ${when}`, run.error && ` · ${run.error}`);
  }

  /** Runs a plan; one that says what it takes is asked for first, in its card. */
  async run(name, button) {
    button.disabled = true;
    try {
      const stored = await (await api.request(this.path(`plans/${encodeURIComponent(name)}`))).json();
      const { parameters, inputs } = stored.plan ?? stored;
      if (parameters && typeof parameters === 'object') this.fillIn(name, button, new Form(parameters, { values: { ...inputs, ...stored.inputs } }));
      else await this.submit({ stored: name }, button);
    } catch (error) {
      this.app.refused(error);
    }
    button.disabled = false;
  }

  /** Stores the plan as it is, with its schedule paused or not; it is refused where someone has changed it meanwhile. */
  async enable(name, isEnabled, button) {
    button.disabled = true;
    const path = this.path(`plans/${encodeURIComponent(name)}`);
    try {
      const answer = await api.request(path);
      const [text, etag] = [await answer.text(), answer.headers.get('etag')];
      const body = withValue(text, ['schedule', 'enabled'], String(isEnabled));
      await api.request(path, { method: 'PUT', body, headers: { 'content-type': 'application/json', 'if-match': etag } });
      this.app.say(isEnabled ? `The schedule of ${name} is active again` : `The schedule of ${name} is paused`);
    } catch (error) {
      this.app.refused(error);
    }
    await this.load();
  }

  /** The list stays as it is while something is filled in. */
  fillIn(name, button, form) {
    this.isFilledIn = true;
    const card = button.closest('li');
    const close = () => {
      this.isFilledIn = false;
      this.load();
    };
    button.hidden = true;
    const asked = h('form', { 'aria-label': `Inputs of ${name}`, novalidate: true, onsubmit: async (event) => {
      event.preventDefault();
      const inputs = form.read();
      if (inputs === undefined) return;
      await this.submit({ stored: name, inputs }, event.submitter, form);
    } }, form.element, h('div.actions', {}, h('button.primary', { type: 'submit' }, 'Run with these inputs'), h('button', { type: 'button', onclick: close }, 'Close')));
    card.append(asked);
    form.focus();
  }

  /** Pressed twice, as where an answer was lost, it runs once; `inputs` are JSON as they were typed. */
  async submit({ stored, inputs }, button, form) {
    const body = `{"stored":${JSON.stringify(stored)}${inputs === undefined ? '' : `,"inputs":${inputs}`}}`;
    if (!this.keys.has(body)) this.keys.set(body, api.newKey());
    button.disabled = true;
    try {
      const { runId } = await api.submit(this.project, body, this.keys.get(body));
      this.keys.delete(body);
      this.app.go({ isPlans: false, run: runId, step: undefined });
    } catch (error) {
      // What was refused is asked for anew; only where nobody answered it may have been taken on.
      if (error.status !== 0) this.keys.delete(body);
      if (error.status === 422 && form && error.issues.length > 0) form.show(error.issues);
      else this.app.refused(error);
    }
    button.disabled = false;
  }
}
