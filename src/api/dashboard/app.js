/**
 * The page: the selected project, run and step (from the address), and the views that draw them. Owns the address, the
 * connection indicator and the token form; everything else is a view that is notified of changes.
 */
import * as api from './api.js';
import { PROJECTS_MAX } from '/stepcast.js';
import { h, setText } from './dom.js';
import { isEnded, waiting } from './estimate.js';
import { chosen } from './glance.js';
import { Live } from './live.js';
import { OverviewView } from './overview.js';
import { RunList } from './runs.js';
import { RunView } from './run.js';

/** How often the list of projects is asked for, and running clocks go on, in milliseconds. */
const PROJECTS_INTERVAL = 5_000;
const TICK = 200;

const element = (id) => document.getElementById(id);
const main = element('main');

const app = {
  route: {},
  projects: [],
  go: (route) => { location.hash = address({ ...app.route, ...route }); },
  address: (route) => `#${address(route)}`,
  say: announce,
  toast,
  refused,
};
const live = new Live(changed);
const runs = new RunList(element('runs'), app);
let view;

/** `/` for all projects, `/p/demo/r/run_1/s/build`, `/p/demo/new`, `/p/demo/messages`, `/p/demo/plans`. */
function address({ project, run, step, isNew, again, isMessages, isPlans }) {
  const id = encodeURIComponent;
  if (!project) return '/';
  if (isNew) return `/p/${id(project)}/new${again ? `/${id(again)}` : ''}`;
  if (isMessages) return `/p/${id(project)}/messages`;
  if (isPlans) return `/p/${id(project)}/plans`;
  return `/p/${id(project)}${run ? `/r/${id(run)}` : ''}${run && step ? `/s/${id(step)}` : ''}`;
}

function routeOf(hash) {
  const parts = hash.replace(/^#\/?/, '').split('/').map(decoded);
  if (parts[0] !== 'p' || !parts[1]) return {};
  if (parts[2] === 'new') return { project: parts[1], isNew: true, again: parts[3] };
  if (parts[2] === 'messages') return { project: parts[1], isMessages: true };
  if (parts[2] === 'plans') return { project: parts[1], isPlans: true };
  return { project: parts[1], run: parts[2] === 'r' ? parts[3] : undefined, step: parts[4] === 's' ? parts[5] : undefined };
}

/** An address that someone has mangled leads somewhere all the same. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function navigate() {
  const before = app.route;
  app.route = routeOf(location.hash);
  const { project, run, isNew, isMessages, isPlans } = app.route;
  if (project && project !== before.project) follow(project);
  if (!project && (before.project || !view)) lookOver();
  mark();
  draw();
  if (run !== before.run || isNew !== before.isNew || isMessages !== before.isMessages || isPlans !== before.isPlans || project !== before.project) scrollTo(0, 0);
}

/** What the style goes by. */
function mark() {
  const { project, run, step, isNew, isMessages, isPlans } = app.route;
  const marks = { 'is-overview': !project, 'has-run': Boolean(!project || run || isNew || isMessages || isPlans), 'has-step': Boolean(step) };
  for (const [name, is] of Object.entries(marks)) document.body.classList.toggle(name, is);
  element('new').hidden = !project;
  if (project) element('new').href = app.address({ project, isNew: true });
}

function follow(project) {
  view = undefined;
  showProjects();
  runs.open(project);
  live.follow(project, api.token());
}

/** Without a project in the address: all of them. */
function lookOver() {
  view = undefined;
  showProjects();
  loadProjects();
}

async function loadProjects() {
  try {
    app.projects = await api.readProjects();
    overlook({ status: 'live' });
  } catch (error) {
    overlook({ status: 'reconnecting', reason: error.message });
    refused(error);
  }
}

/** Asks again, for projects that are new. Where there is a stream, that says whether the server is there to be asked. */
async function loadQuietly() {
  if (isAsking || document.hidden || (live.wanted && live.state.connection?.status !== 'live')) return;
  try {
    app.projects = await api.readProjects();
    overlook({ status: 'live' });
  } catch (error) {
    if (error.status === 401) refused(error);
    else if (app.projects.length === 0) overlook({ status: 'reconnecting', reason: error.message });
  }
}

/** Follows what happens in the projects, where all are looked at; `connection` is what is said where there are none. */
function overlook(connection) {
  showProjects();
  if (app.route.project) return;
  const followed = chosen(app.projects, PROJECTS_MAX, live.glances);
  if (followed.length > 0) live.overview(followed.sort(), api.token());
  else live.idle(connection);
  app.isListed ||= connection.status === 'live';
  app.redraw();
}

function showProjects() {
  const select = element('project');
  const current = app.route.project;
  const isLive = live.state.connection?.status === 'live';
  const active = [...live.state.runs.values()].filter(({ status }) => !isEnded(status)).length;
  const counted = ({ projectId, activeRuns }) => isLive && projectId === current ? active : live.glances.get(projectId)?.active ?? activeRuns;
  const known = app.projects.map((project) => [project.projectId, counted(project)]);
  if (current && !known.some(([id]) => id === current)) known.unshift([current, 0]);
  const label = ([id, active]) => active > 0 ? `${id} (${active} active)` : id;
  const options = [['', 'All projects'], ...known.map((one) => [one[0], label(one)])];
  const isSame = select.options.length === options.length && options.every(([id, text], at) =>
    id === select.options[at].value && text === select.options[at].text);
  if (!isSame) select.replaceChildren(...options.map(([value, text]) => h('option', { value }, text)));
  if (select.value !== (current ?? '')) select.value = current ?? '';
}

/** What is looked at where the address names no run: on a wide screen the newest, so that whoever comes sees what goes on. */
function shownRun() {
  const { run } = app.route;
  if (run) return run;
  return matchMedia('(min-width: 761px)').matches ? runs.newest() : undefined;
}

/** The steps that wait for a decision in what is looked at: each where to find it. */
function asked() {
  const { project } = app.route;
  if (!project) return [...live.glances.values()].flatMap((glance) => glance.runs.flatMap((run) => run.waits.map(({ id }) => ({ project: glance.projectId, run: run.runId, step: id }))));
  return [...live.state.runs.values()].flatMap((run) => waiting(run).map(({ id }) => ({ project, run: run.runId, step: id })));
}

/** Says in the head and in the title that something waits; the head leads to the first of it. */
function showAsked() {
  const { project } = app.route;
  const places = asked();
  const count = project ? places.length : [...live.glances.values()].reduce((sum, { waits }) => sum + waits, 0);
  const name = project ? `${project} · stepcast` : 'stepcast';
  const title = count > 0 ? `${count} waiting · ${name}` : name;
  if (document.title !== title) document.title = title;
  const link = element('waits');
  link.hidden = places.length === 0;
  if (link.hidden) return;
  link.href = app.address(places[0]);
  const [, number, rest] = link.children;
  setText(number, String(count));
  setText(rest, ` step${count === 1 ? '' : 's'} waiting${api.may('approve') ? ' for you' : ''}`);
}

function draw() {
  const { project, isNew, again, isMessages, isPlans } = app.route;
  if (isAsking) return;
  showAsked();
  showProjects();
  if (!project) return drawAll();
  runs.see(live.state);
  if (isNew) {
    const SubmitView = part('submit')?.SubmitView;
    if (SubmitView && (!(view instanceof SubmitView) || view.project !== project || view.again !== again)) show(new SubmitView(project, again, app));
    return runs.update(undefined);
  }
  if (isMessages) {
    const MessagesView = part('messages')?.MessagesView;
    if (MessagesView && (!view?.isMessages || view.project !== project)) show(new MessagesView(project, app));
    return runs.update(undefined);
  }
  if (isPlans) {
    const PlansView = part('plans')?.PlansView;
    if (PlansView && (!view?.isPlans || view.project !== project)) show(new PlansView(project, app));
    return runs.update(undefined);
  }
  const run = shownRun();
  runs.update(run);
  if (!run) {
    if (!view?.isWelcome || view.project !== project || view.isLoaded !== runs.isLoaded) show(welcome(project));
    return;
  }
  if (!(view instanceof RunView) || view.runId !== run || view.project !== project) show(new RunView(project, run, app));
  view.update(live.state, app.route.step);
}

const parts = new Map();

/** A part of the page that is loaded when it is first looked at; undefined until it is there, which draws anew. */
function part(name) {
  if (!parts.has(name)) {
    parts.set(name, undefined);
    import(`./${name}.js`).then((loaded) => parts.set(name, loaded), () => toast('A part of this page could not be loaded. Reload it to try again.'))
      .then(app.redraw);
  }
  return parts.get(name);
}

function drawAll() {
  if (app.projects.length > 0) {
    if (!(view instanceof OverviewView)) show(new OverviewView(app));
    view.update(app.projects, live.glances);
  } else if (app.isListed && !view?.isFirst) show(firstSteps());
}

function show(next) {
  view?.close?.();
  view = next;
  main.replaceChildren(view.element);
}

function welcome(project) {
  return { isWelcome: true, project, isLoaded: runs.isLoaded, element: h('section.welcome', {},
    h('h1', {}, runs.isLoaded ? 'No runs in this project yet' : 'Loading runs'),
    h('p.soft', {}, 'Submitted runs appear here automatically. Submit one with the button above or from a terminal.'),
    submitting(project)) };
}

/** What a server shows on which nothing was run yet. */
function firstSteps() {
  return { isFirst: true, element: h('section.welcome', {},
    h('h1', {}, 'No projects yet'),
    h('p.soft', {}, 'A project appears here as soon as it receives its first run or message, for example from a terminal:'),
    submitting('demo'),
    h('p', {}, h('a.button', { href: app.address({ project: 'demo', isNew: true }) }, 'Or write a plan in the browser'))) };
}

function submitting(project) {
  const curl = `curl ${location.origin}/api/projects/${project}/workflows \\
  -H 'Content-Type: application/json' -d '{
    "name": "hello",
    "steps": [
      {"id": "a", "tool": "delay", "inputs": {"ms": 2000}},
      {"id": "b", "tool": "echo", "inputs": {"n": 42},
       "dependencies": ["a"]}
    ]}'`;
  return h('pre', { tabindex: '0', 'aria-label': 'A command that submits a plan' }, curl);
}

let isDrawing = false;

/** Draws once for all that has changed in a frame. A hidden page draws when it is looked at again. */
function changed(state, messages) {
  showConnection(state.connection);
  const told = messages.filter(({ projectId }) => projectId === app.route.project);
  for (const message of told) tellAloud(message);
  hear(told.filter(({ text }) => text !== undefined));
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    draw();
  });
}

/** What publishers say. */
function hear(messages) {
  if (messages.length === 0) return;
  if (view?.isMessages) view.hear(messages);
  else runs.hear(messages.length);
}

const PILLS = {
  live: 'Live', connecting: 'Connecting', reconnecting: 'Reconnecting', denied: 'No access', ended: 'Ended', closed: 'Closed',
};
let shownStatus;

function showConnection({ status, reason } = { status: 'connecting' }) {
  const pill = element('connection');
  const text = status !== 'live' && reason ? `${PILLS[status]}: ${reason}` : PILLS[status];
  pill.className = `pill ${status}`;
  if (pill.lastElementChild.textContent !== text) pill.lastElementChild.textContent = text;
  pill.title = status === 'live' ? 'This page is up to date. Click to use another token.' : text;
  if (status === shownStatus) return;
  if (shownStatus) announce(text);
  shownStatus = status;
  if (status === 'denied') askToken(reason);
  if (status === 'live') {
    isAsking && closeToken();
    if (app.route.project) runs.refresh();
    if (view?.isMessages) view.load();
  }
}

/** Only what a run begins and ends with, and what it asks: a screen reader that reads each step out is of no use. */
function tellAloud({ type, payload }) {
  if (type === 'workflow_started') announce(`${payload.planName} started`);
  if (type === 'workflow_progress' && payload.status === 'waiting') announce(`${payload.stepTitle} is waiting for a decision`);
  if (type === 'workflow_completed') announce(`${payload.planName} completed`);
  if (type === 'workflow_failed') announce(`${payload.planName} failed: ${payload.error}`);
}

function announce(text) {
  element('announce').textContent = text;
}

function toast(text) {
  const note = h('p', {}, text);
  element('toasts').append(note);
  setTimeout(() => note.remove(), 6_000);
}

/** A call was refused: where a token helps, it is asked for; else it is said. */
function refused(error) {
  if (error.name === 'AbortError') return;
  // That the server is away is said by the pill.
  if (error.status === 0 && live.state.connection?.status !== 'live') return;
  if (error.status === 401) askToken(api.token() ? error.message : '');
  else toast(error.message);
}

let isAsking = false;

function askToken(why) {
  if (isAsking) return;
  isAsking = true;
  const input = h('input', { type: 'password', id: 'token', autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'token-why' });
  const form = h('form.form.narrow', {},
    h('h1', {}, 'Sign in'),
    h('p.soft', { id: 'token-why' }, why ? `The server refused access: ${why}.` : 'Enter an access token to see the runs of this server.'),
    h('div.field', {}, h('label', { for: 'token' }, 'Token'), input),
    h('div.actions', {}, h('button.primary', { type: 'submit' }, 'Continue'),
      h('span.soft', {}, 'The token is stored until you close this tab.')));
  form.onsubmit = (event) => {
    event.preventDefault();
    api.setToken(input.value.trim());
    closeToken();
    if (app.route.project) follow(app.route.project);
    loadProjects();
    navigate();
  };
  document.body.classList.add('has-run');
  show({ element: form });
  input.focus();
}

function closeToken() {
  isAsking = false;
  view = undefined;
  mark();
}

element('project').onchange = (event) => { location.hash = address({ project: event.target.value }); };
element('connection').onclick = () => askToken('');
addEventListener('hashchange', navigate);
addEventListener('resize', () => changed(live.state, []));
addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && app.route.step) app.go({ step: undefined });
});
addEventListener('visibilitychange', () => document.hidden || loadQuietly());
setInterval(loadQuietly, PROJECTS_INTERVAL);
setInterval(() => {
  // A clock that goes on while nothing is heard would tell what nobody knows.
  if (document.hidden || live.state.connection?.status !== 'live') return;
  view?.tick?.();
  runs.tick();
}, TICK);

app.part = part;
app.begunBy = (run, step) => runs.begunBy(run, step);
app.redraw = () => changed(live.state, []);
navigate();
if (app.route.project) loadProjects();
