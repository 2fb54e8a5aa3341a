/**
 * The question of a waiting step: its message, the form for its schema, and the decision. Owns the entered values until anyone
 * has decided.
 */
import * as api from './api.js';
import { h, setText } from './dom.js';
import { ticking } from './format.js';
import { Form } from './form.js';

/** What a step that nobody answers does. */
const ON_EXPIRE = { fail: 'it fails', reject: 'it is rejected', approve: 'it is approved' };

/** Why someone may not decide. */
const whyNot = ({ deciders = [] }) => deciders.length > 0 ? `Only ${deciders.join(', ')} can decide.` : 'You can’t decide: your token lacks the scope “approve”.';

export class ApprovalView {
  constructor(project, runId, step, app) {
    Object.assign(this, { project, runId, stepId: step.id, approval: step.approval, app });
    const { message, schema } = step.approval;
    this.form = schema && schema !== true ? new Form(schema) : undefined;
    this.left = h('p.soft.numbers', { hidden: !step.approval.expiresAt });
    this.said = h('p.field-error', { role: 'alert', hidden: true });
    this.readOnly = h('p.soft', { hidden: true }, whyNot(step.approval));
    this.approve = h('button.primary', { type: 'submit' }, 'Approve');
    this.reject = h('button.danger', { type: 'button', onclick: () => this.decide('reject') }, 'Reject');
    this.element = h('form.approval', { 'aria-label': 'Decision', novalidate: true, onsubmit: (event) => {
      event.preventDefault();
      this.decide('approve');
    } },
    h('h3', {}, 'This step is waiting for a decision'), h('p.question', {}, message), this.left,
    this.form?.element, this.said, this.readOnly, h('div.actions', {}, this.approve, this.reject));
    this.allow(api.mayDecide(step.approval));
  }

  /** Does this ask the same as the step does now? */
  isOf(step) {
    return JSON.stringify(step.approval) === JSON.stringify(this.approval);
  }

  allow(is) {
    this.readOnly.hidden = is;
    this.setBusy(!is);
  }

  setBusy(is) {
    this.approve.disabled = this.reject.disabled = is;
    if (this.form) this.form.isDisabled = is;
  }

  tick(time) {
    const { expiresAt, onExpire = 'fail' } = this.approval;
    if (!expiresAt) return;
    const ms = Date.parse(expiresAt) - time;
    setText(this.left, ms > 0 ? `${ticking(ms)} left, then ${ON_EXPIRE[onExpire] ?? 'it ends'}` : 'The time to decide is over.');
  }

  /** A rejected form need not be filled in. Pressed twice it is decided once. */
  async decide(decision) {
    this.say('');
    const payload = decision === 'approve' ? this.form?.read() : undefined;
    if (decision === 'approve' && this.form && payload === undefined) return;
    const said = `${decision} ${payload}`;
    if (said !== this.decided) Object.assign(this, { decided: said, key: api.newKey() });
    this.setBusy(true);
    try {
      await api.decide(this.project, this.runId, this.stepId, { decision, payload }, this.key);
      this.app.say(decision === 'approve' ? 'Approved' : 'Rejected');
    } catch (error) {
      this.setBusy(false);
      this.refused(error);
    }
  }

  refused(error) {
    if (error.status === 403) {
      setText(this.readOnly, `You can’t decide: ${error.message}.`);
      return this.allow(false);
    }
    if (error.status === 401) return this.app.refused(error);
    if (error.status === 422 && this.form && error.issues.length > 0) return this.form.show(error.issues);
    if (error.status !== 409) return this.say(error.message);
    // What was decided instead comes by the stream, and takes the place of this.
    this.setBusy(true);
    this.app.toast(`Too late: ${error.message}.`);
  }

  say(text) {
    this.said.hidden = text === '';
    setText(this.said, text);
  }
}
