// @ts-check
/**
 * Calls that steer a run. Each is one request with an `Idempotency-Key`: who passes the same `key` again, because no answer
 * came, is answered what was answered before, and nothing happens twice.
 */

/**
 * @typedef {object} CallOptions
 * @property {string} [base] the server's origin, where it is another one than the page's
 * @property {Record<string, string>} [headers] such as `authorization`
 * @property {RequestCredentials} [credentials]
 * @property {string} [key] of this call, where it may have to be made again; a new one where there is none
 */

/** What a server refused: `status`, `code` and `issues` as in its problem+json; of a conflict `problem` holds the rest. */
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
 * Approves or rejects what a step waits for.
 * @param {string} project @param {string} runId @param {string} stepId
 * @param {{decision: 'approve'|'reject', payload?: any}} decision @param {CallOptions} [options]
 */
export const decide = (project, runId, stepId, decision, options) =>
  send('POST', `${path(project, runId)}/steps/${encodeURIComponent(stepId)}/decision`, decision, options);

/**
 * Begins a run that goes on from where another failed or was cancelled; what that has completed is kept.
 * @param {string} project @param {string} runId
 * @param {{from?: string[], inputs?: any, plan?: any}} [change] @param {CallOptions} [options]
 */
export const retry = (project, runId, change = {}, options) => send('POST', `${path(project, runId)}/retry`, change, options);

/**
 * Changes the steps of a run that have not started. It is refused with 409 where the plan is at another revision by now.
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

/** A key that no other call has. `crypto.randomUUID` is there on https and on loopback alone. */
export const newKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join('');
