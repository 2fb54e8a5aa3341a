/** A new run: a plan from a file or as text, which the server checks; issues are shown at their places. */
import * as api from './api.js';
import { h } from './dom.js';
import { Form } from './form.js';
import { count } from './format.js';
import { indented, textAt } from './json.js';
import { lineOf, locate, offsetOf } from './locate.js';

const EXAMPLE = `{
  "name": "hello",
  "steps": [
    {"id": "wait", "title": "Wait a little", "tool": "delay", "inputs": {"ms": 3000}},
    {"id": "greet", "title": "Say hello", "tool": "echo", "inputs": {"text": "hello"}},
    {"id": "sum", "title": "Add up", "tool": "echo",
     "inputs": {"said": "{{ steps.greet.output.text }}", "n": "{{ 40 + 2 }}"},
     "dependencies": ["wait", "greet"]}
  ]
}
`;

/** What is typed is kept so long as the tab is there. */
const DRAFT_KEY = 'stepcast-plan';

export class SubmitView {
  constructor(project, again, app) {
    Object.assign(this, { project, again, app });
    this.text = h('textarea', { id: 'plan', spellcheck: 'false', autocapitalize: 'off', value: sessionStorage.getItem(DRAFT_KEY) ?? EXAMPLE, oninput: () => this.edited() });
    this.file = h('input.visually-hidden', { type: 'file', id: 'file', accept: '.json,application/json', onchange: () => this.open(this.file.files[0]) });
    this.result = h('div', { role: 'status' });
    this.inputs = h('section', { 'aria-label': 'Inputs', hidden: true });
    this.run = h('button.primary', { type: 'button', onclick: () => this.submit() }, 'Run');
    this.checkButton = h('button', { type: 'button', onclick: () => this.check() }, 'Check');
    const chooser = h('button', { type: 'button', onclick: () => this.file.click() }, 'Open file');
    this.element = h('form.form', { 'aria-label': 'New run', onsubmit: (event) => event.preventDefault() },
      h('h1', {}, `New run in ${project}`),
      h('div.field', {}, h('label', { for: 'plan' }, 'Plan, as JSON'), this.text),
      this.inputs,
      h('label.visually-hidden', { for: 'file' }, 'Plan file'), this.file,
      h('div.actions', {}, this.run, this.checkButton, chooser, h('a.button.back', { href: app.address({ project }) }, 'All runs')),
      this.result);
    this.file.tabIndex = -1;
    this.element.ondragover = (event) => { event.preventDefault(); this.text.classList.add('over'); };
    this.element.ondragleave = () => this.text.classList.remove('over');
    this.element.ondrop = (event) => {
      event.preventDefault();
      this.text.classList.remove('over');
      this.open(event.dataTransfer.files[0]);
    };
    this.offerInputs();
    if (again) this.fillIn(again);
  }

  /** A plan that says what it takes is given it in a form. Where the plan is no JSON just now, the form stays as it was. */
  offerInputs() {
    let document;
    try {
      document = JSON.parse(this.text.value);
    } catch {
      return;
    }
    const plan = document?.plan ?? document;
    const schema = plan?.parameters;
    const asked = JSON.stringify([schema, document?.inputs, plan?.inputs]);
    if (asked === this.asked) return;
    this.asked = asked;
    this.form = schema && typeof schema === 'object' ? new Form(schema, { values: { ...plan.inputs, ...document.inputs } }) : undefined;
    this.inputs.hidden = !this.form;
    this.inputs.replaceChildren(...(this.form ? [h('h2', {}, 'Inputs'), this.form.element] : []));
  }

  /** What is submitted: the text, with what was filled in; undefined where something of that is wrong. */
  body() {
    const inputs = this.form?.read();
    return this.form ? inputs && withInputs(this.text.value, inputs) : this.text.value;
  }

  /** The plan of an earlier run, as it was written; its secrets have to be typed again. */
  async fillIn(runId) {
    try {
      const { text, masked } = await api.readPlan(this.project, runId);
      this.text.value = indented(`{"plan": ${textAt(text, ['plan'])}, "inputs": ${textAt(text, ['inputs']) ?? '{}'}}`);
      this.offerInputs();
      if (masked.length > 0) this.showIssues('These values are hidden; enter them again', masked.map((path) => ({ path, message: 'enter the value' })));
    } catch (error) {
      this.app.refused(error);
    }
  }

  edited() {
    sessionStorage.setItem(DRAFT_KEY, this.text.value);
    this.result.replaceChildren();
    this.offerInputs();
  }

  async open(file) {
    if (!file) return;
    this.text.value = await file.text();
    this.file.value = '';
    this.edited();
    this.check();
  }

  async check() {
    await this.ask(async () => {
      const summary = await api.check(this.text.value);
      this.result.replaceChildren(h('p.good', {}, `The plan is valid: ${count(summary.steps.length, 'step')} in ${count(summary.totalLevels, 'level')}.`));
    });
  }

  async submit() {
    const body = this.body();
    if (body === undefined) return;
    await this.ask(async () => {
      // Pressed twice, the same plan runs once.
      if (body !== this.submitted) Object.assign(this, { submitted: body, key: api.newKey() });
      const { runId } = await api.submit(this.project, body, this.key);
      this.submitted = undefined;
      this.app.go({ isNew: false, run: runId, step: undefined });
    });
  }

  async ask(call) {
    this.run.disabled = this.checkButton.disabled = true;
    try {
      await call();
    } catch (error) {
      if (error.status === undefined) throw error;
      if (error.status === 401) this.app.refused(error);
      else this.showRefusal(error);
    }
    this.run.disabled = this.checkButton.disabled = false;
  }

  showRefusal(error) {
    const place = /line (\d+) column (\d+)/.exec(error.message);
    const ofInputs = this.form ? error.issues.filter(({ path }) => /^inputs\b/.test(path ?? '')) : [];
    if (ofInputs.length > 0 && ofInputs.length === error.issues.length) this.form.show(ofInputs);
    else if (error.issues.length > 0) this.showIssues(`The plan has ${count(error.issues.length, 'issue')}`, error.issues);
    else if (place) this.showIssues('The plan is not valid JSON', [{ message: error.message, at: offsetOf(this.text.value, Number(place[1]), Number(place[2])) }]);
    else this.showIssues(error.message, []);
  }

  showIssues(title, issues) {
    const text = this.text.value;
    const rows = issues.map(({ path, message, at }) => {
      const place = at === undefined ? locate(text, path) : { from: Math.max(0, at - 1), to: at };
      return { line: lineOf(text, place.from).line, path, message, place };
    });
    const list = rows.map(({ line, path, message, place }) => h('li', {}, h('button', { type: 'button', onclick: () => this.select(place) },
      h('span.soft.numbers', {}, `line ${line}`), h('span', {}, message), path && h('code', {}, path))));
    this.result.replaceChildren(h('div.issues', {}, h('h2', {}, title), h('ul', {}, ...list)));
    if (rows.length > 0) this.select(rows[0].place, false);
  }

  /** Shows a place: selected, and in the middle of the box. */
  select({ from, to }, hasFocus = true) {
    const { text } = this;
    const height = parseFloat(getComputedStyle(text).lineHeight);
    text.setSelectionRange(from, to);
    text.scrollTop = (lineOf(text.value, from).line - 1) * height - text.clientHeight / 2;
    if (hasFocus) text.focus();
  }
}

/** The plan that is there, alone or with inputs, with these inputs: those that the form does not ask for stay. */
function withInputs(text, inputs) {
  const document = JSON.parse(text);
  if (document.plan === undefined) return `{"plan":${text},"inputs":${inputs}}`;
  const member = (keys) => `${JSON.stringify(keys.at(-1))}:${textAt(text, keys)}`;
  const asked = JSON.parse(inputs);
  const beside = Object.keys(document.inputs ?? {}).filter((name) => !(name in asked) && !(name in (document.plan.parameters.properties ?? {})));
  const kept = [...beside.map((name) => member(['inputs', name])), ...(inputs === '{}' ? [] : [inputs.slice(1, -1)])];
  const others = Object.keys(document).filter((name) => name !== 'inputs').map((name) => member([name]));
  return `{${others.join()},"inputs":{${kept.join()}}}`;
}
