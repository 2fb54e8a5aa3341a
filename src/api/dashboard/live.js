/**
 * The tab's side of the hub: maintains the state of the selected project, or the summaries for the overview, and notifies the
 * page of changes.
 */
import { emptyState, fold } from '/stepcast.js';
import { Hub } from './hub.js';

/** Counts up when tabs and worker no longer understand one another's older versions. */
const PROTOCOL = 3;

export class Live {
  /** @param {(state, messages) => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.state = emptyState('');
    /** Of the overview's projects, by their ids. */
    this.glances = new Map();
    this.port = connect(() => this.use(own()));
    this.use(this.port);
    // A page that leaves, even into the browser's cache, must not hold the stream; one that comes back follows anew.
    addEventListener('pagehide', () => this.port.postMessage({ leave: true }));
    addEventListener('pageshow', (event) => event.persisted && this.comeBack());
  }

  use(port) {
    this.port = port;
    port.onmessage = ({ data }) => this.receive(data);
    if (this.wanted) this.ask();
  }

  follow(projectId, token) {
    this.wanted = { follow: projectId, token };
    this.state = { ...emptyState(projectId), connection: { status: 'connecting' } };
    this.glances = new Map();
    this.ask();
  }

  /** Follows what happens in these projects, in short. Those that were followed before go on. */
  overview(projectIds, token) {
    const { wanted } = this;
    const goesOn = Boolean(wanted?.overview) && wanted.token === token;
    if (goesOn && wanted.overview.join() === projectIds.join()) return;
    this.wanted = { overview: projectIds, token };
    if (!goesOn) this.state = { ...emptyState(''), connection: { status: 'connecting' } };
    this.glances = new Map(projectIds.filter((id) => goesOn && this.glances.has(id)).map((id) => [id, this.glances.get(id)]));
    this.ask();
  }

  /** Where there is nothing to follow, whether the server answers is all that there is to tell. */
  idle(connection) {
    this.wanted = undefined;
    this.glances = new Map();
    this.state = { ...emptyState(''), connection };
    this.port.postMessage({ leave: true });
    this.onChange(this.state, []);
  }

  /** What is shown is as old as the page was away: nobody knows yet whether it is so. */
  comeBack() {
    if (!this.wanted) return;
    this.state = { ...this.state, connection: { status: 'connecting' } };
    this.onChange(this.state, []);
    this.ask();
  }

  ask() {
    if (this.wanted) this.port.postMessage(this.wanted);
  }

  receive({ state, messages = [], glances = [], connection }) {
    if (!this.wanted || (state && state.projectId !== this.wanted.follow)) return;
    if (state) this.state = state;
    for (const message of messages) {
      // What was under way when the project was changed is another project's.
      if (message.projectId === this.state.projectId) this.state = fold(this.state, message);
    }
    for (const glance of glances) if (this.wanted.overview?.includes(glance.projectId)) this.glances.set(glance.projectId, glance);
    if (connection) this.state = { ...this.state, connection };
    this.onChange(this.state, messages);
  }
}

/** A port to the shared worker, or to a hub of this tab's own. */
function connect(onFailure) {
  if (typeof SharedWorker === 'undefined') return own();
  const worker = new SharedWorker('/dashboard/worker.js', { type: 'module', name: `stepcast-${PROTOCOL}` });
  worker.onerror = onFailure;
  return worker.port;
}

function own() {
  const { port1, port2 } = new MessageChannel();
  new Hub().attach(port1);
  return port2;
}
