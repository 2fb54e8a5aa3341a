// @ts-check
/**
 * Calls that steer a run. Each is one request with an `Idempotency-Key`: repeating a call with the same `key`, because there
 * was no response, returns the first response and does nothing twice.
 */

/**
 * @typedef {object} CallOptions
 * @property {string} [base] the server's origin, if it differs from the page's
 * @property {Record<string, string>} [headers] such as `authorization`
 * @property {RequestCredentials} [credentials]
 * @property {string} [key] of this call, so that it can be repeated; by default a new one
 */

/** An error response: `status`, `code` and `issues` of its problem+json; `problem` is all of it. */
export class CallRefused extends Error {
  /** @param {number} status @param {any} problem */
  constructor(status, problem) {
    super(problem.detail ?? `the server responded with status ${status}`);
    this.status = status;
    /** @type {string|undefined} */
    this.code = problem.code;
    /** @type {{path: string, message: string}[]} */
    this.issues = problem.issues ?? [];
    this.problem = problem;
  }
}

/**
 * Approves or rejects a waiting step.
 * @param {string} project @param {string} runId @param {string} stepId
 * @param {{decision: 'approve'|'reject', payload?: any}} decision @param {CallOptions} [options]
 */
export const decide = (project, runId, stepId, decision, options) =>
  send('POST', `${path(project, runId)}/steps/${encodeURIComponent(stepId)}/decision`, decision, options);

/**
 * Starts a run that retries another one that failed or was cancelled; the outputs of completed steps are reused.
 * @param {string} project @param {string} runId
 * @param {{from?: string[], inputs?: any, plan?: any}} [change] @param {CallOptions} [options]
 */
export const retry = (project, runId, change = {}, options) => send('POST', `${path(project, runId)}/retry`, change, options);

/**
 * Changes steps of a run that have not started. Fails with 409 if the plan has a different revision by now.
 * @param {string} project @param {string} runId
 * @param {{expectedRevision: number, add?: any[], replace?: any[], remove?: string[]}} change @param {CallOptions} [options]
 */
export const changePlan = (project, runId, change, options) => send('PATCH', `${path(project, runId)}/plan`, change, options);

/** @param {string} project @param {string} runId */
const path = (project, runId) => `/api/projects/${encodeURIComponent(project)}/workflows/${encodeURIComponent(runId)}`;

/** @param {string} method @param {string} where @param {any} body @param {CallOptions} [options] @returns {Promise<any>} */
async function send(method, where, body, { base = '', headers, credentials, key = newKey() } = {}) {
  const given = { 'content-type': 'application/json', 'idempotency-key': key, ...headers };
  const answer = await fetch(base + where, { method, headers: given, body: JSON.stringify(body), credentials });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new CallRefused(answer.status, said);
  return said;
}

/** A unique key. `crypto.randomUUID` is only available on https and on loopback. */
export const newKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join('');
