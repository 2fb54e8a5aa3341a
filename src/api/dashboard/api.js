/** The calls to the server, with the token if there is one. Owns the token, and the difference between the clocks. */

import { newKey } from './calls.js';
import { itemsAt, payloadOf } from './json.js';

export { newKey };

const TOKEN_KEY = 'stepcast-token';

/** Clocks that differ by less are taken as the same, in milliseconds: the Date header is no finer. */
const SKEW_MIN = 2_000;

let skew = 0;

/** The server's time. */
export const now = () => Date.now() + skew;

export const token = () => sessionStorage.getItem(TOKEN_KEY) ?? '';

export function setToken(text) {
  if (text) sessionStorage.setItem(TOKEN_KEY, text);
  else sessionStorage.removeItem(TOKEN_KEY);
}

/** What the token claims; undefined where there is none, or where it can't be read. */
function claims() {
  const payload = token().split('.')[1];
  if (!payload) return undefined;
  try {
    return JSON.parse(atob(payload.replaceAll('-', '+').replaceAll('_', '/')));
  } catch {
    return undefined;
  }
}

/** Whether the token gives a scope; where it can't be read, the server will tell. */
export function may(scope) {
  const { scope: given = 'subscribe' } = claims() ?? { scope };
  return given.split(' ').some((one) => one === scope || one === 'admin');
}

/** Whether its owner may decide what an approval asks, as far as the page can tell. */
export function mayDecide({ deciders = [] } = {}) {
  const { sub } = claims() ?? {};
  return may('approve') && (deciders.length === 0 || sub === undefined || deciders.includes(sub));
}

/** What the server refused: its status, what it said, and what is wrong with a plan. */
export class Refused extends Error {
  constructor(status, { detail, code, issues } = {}) {
    super(detail ?? (status === 0 ? 'the server is not responding' : `the server responded with status ${status}`));
    Object.assign(this, { status, code, issues: issues ?? [] });
  }
}

/** The answer to a call, whatever its kind, if it is a good one. */
export async function request(path, { method = 'GET', headers = {}, body, signal } = {}) {
  const authorization = token() && { authorization: `Bearer ${token()}` };
  let answer;
  try {
    answer = await fetch(path, { method, headers: { ...authorization, ...headers }, body, signal, cache: 'no-store' });
  } catch (error) {
    throw signal?.aborted ? error : new Refused(0);
  }
  noteClock(answer.headers.get('date'));
  if (answer.ok) return answer;
  throw new Refused(answer.status, await answer.json().catch(() => ({})));
}

const json = async (path, options) => (await request(path, options)).json();
const post = (path, body, headers) =>
  json(path, { method: 'POST', body: body ?? '{}', headers: { 'content-type': 'application/json', ...headers } });

const project = (id) => `/api/projects/${encodeURIComponent(id)}`;
const run = (id, runId) => `${project(id)}/workflows/${encodeURIComponent(runId)}`;
const step = (id, runId, stepId) => `${run(id, runId)}/steps/${encodeURIComponent(stepId)}`;

/** Projects that are listed at most, in pages of a thousand. */
const PROJECT_PAGES_MAX = 10;

/** All projects that the token may see, or as many of them as are listed. */
export async function readProjects() {
  const all = [];
  let next;
  for (let page = 0; page < PROJECT_PAGES_MAX && (page === 0 || next); page++) {
    const answer = await json(`/api/projects?${new URLSearchParams({ limit: 1000, ...(next && { after: next }) })}`);
    all.push(...answer.projects);
    ({ next } = answer);
  }
  return all;
}

/** Messages of a project that are of no run, newest first; what they carry as it was written. */
export async function readMessages(id, query = {}) {
  const parameters = new URLSearchParams({ limit: 50, order: 'newest', type: '!workflow_*', ...query });
  const text = await (await request(`${project(id)}/events?${parameters}`)).text();
  const { oldest, next } = JSON.parse(text);
  const events = itemsAt(text, ['events']).map((item) => ({ ...JSON.parse(item), payload: {}, ...payloadOf(item) }));
  return { events, oldest, next };
}

export const readRuns = (id, query = {}) => json(`${project(id)}/workflows?${new URLSearchParams({ limit: 50, ...query })}`);
export const readRun = (id, runId) => json(`${run(id, runId)}?outputs=cut`);
/** A run's plan and inputs, and their text: the values round numbers. */
export async function readPlan(id, runId) {
  const text = await (await request(`${run(id, runId)}/plan`)).text();
  return { ...JSON.parse(text), text };
}
export const readEvents = (id, runId, after) => json(`${run(id, runId)}/events?limit=1000${after ? `&after=${after}` : ''}`);
export const cancel = (id, runId) => post(`${run(id, runId)}/cancel`);
/** The same plan with the same inputs once more, as the server has them: nothing of them goes through this page. */
export const rerun = (id, runId, key) => post(`${run(id, runId)}/rerun`, undefined, { 'idempotency-key': key });
/** A new run that goes on from where this one failed or was cancelled. */
export const retry = (id, runId, key) => post(`${run(id, runId)}/retry`, undefined, { 'idempotency-key': key });
/** What is decided of a step that waits; `payload` is JSON as it was typed. */
export const decide = (id, runId, stepId, { decision, payload }, key) =>
  post(`${step(id, runId, stepId)}/decision`, `{"decision":"${decision}"${payload === undefined ? '' : `,"payload":${payload}`}}`, { 'idempotency-key': key });
/** Items of a step that is done for each of a list. */
export const readItems = (id, runId, stepId, query = {}) => json(`${step(id, runId, stepId)}/items?${new URLSearchParams(query)}`);
export const check = (text) => post('/api/workflow/check', text);
export const submit = (id, text, key) => post(`${project(id)}/workflows`, text, { 'idempotency-key': key });

/** Where the output of a step, or of one of its items, is; of one stream, or the result itself. */
export function outputPath(id, runId, stepId, { stream, item } = {}) {
  const query = new URLSearchParams({ ...(stream && { stream }), ...(item !== undefined && { item }) });
  return `${step(id, runId, stepId)}/output${query.size > 0 ? `?${query}` : ''}`;
}

function noteClock(date) {
  const difference = Date.parse(date ?? '') + 500 - Date.now();
  if (Number.isFinite(difference)) skew = Math.abs(difference) < SKEW_MIN ? 0 : difference;
}
