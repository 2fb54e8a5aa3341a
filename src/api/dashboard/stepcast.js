// @ts-check
/**
 * The client: follows projects' messages and keeps the state that they tell.
 *
 *   import { follow } from '/stepcast.js';
 *   const following = follow('demo', { onState: (state) => render(state.runs) });
 *   const both = follow(['demo', 'nightly'], { onState: ({ projects }) => projects.forEach(render) });
 *
 * A plain EventSource works without all this.
 */
export { emptyState, fold, plain, runOfView } from './dashboard/state.js';
export { PROJECTS_MAX, follow } from './dashboard/follow.js';
