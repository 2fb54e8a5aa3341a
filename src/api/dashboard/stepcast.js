// @ts-check
/**
 * The client library: follows the messages of projects, maintains their state, and steers runs.
 *
 *   import { decide, follow } from '/stepcast.js';
 *   const following = follow('demo', { onState: (state) => render(state.runs) });
 *   const both = follow(['demo', 'nightly'], { onState: ({ projects }) => projects.forEach(render) });
 *   await decide('demo', runId, 'approve', { decision: 'approve' });
 *
 * A plain EventSource also works without this library.
 */
export { emptyState, fold, plain, runOfView } from './dashboard/state.js';
export { PROJECTS_MAX, follow } from './dashboard/follow.js';
export { CallRefused, changePlan, decide, retry } from './dashboard/calls.js';
