/**
 * The published messages of a project, newest first: from the history, then live. Holds and draws a bounded part of them
 * without gaps, and shows where it ends.
 */
import * as api from './api.js';
import { h, setText } from './dom.js';
import { clock, count, moment } from './format.js';
import { indented } from './json.js';

/** Messages that are held and drawn at most. */
const SHOWN_MAX = 500;

/** Pages that are asked for in a row where they hold nothing: history may be full of what runs say. */
const EMPTY_PAGES_MAX = 8;

/** Characters of what a message carries that stand in its line. */
const LINE_CHARS_MAX = 200;

export class MessagesView {
  constructor(project, app) {
    Object.assign(this, { project, app, isMessages: true, rows: new Map(), events: [], missed: 0, isNewest: true });
    this.newest = h('button', { type: 'button', hidden: true, onclick: () => this.load() });
    this.list = h('ul');
    this.end = h('p.soft', {}, 'Loading');
    this.more = h('button', { type: 'button', hidden: true, onclick: () => this.loadOlder() }, 'Show older messages');
    this.element = h('section.messages', { 'aria-label': 'Messages' },
      h('div.messages-head', {}, h('div', {}, h('h1', {}, 'Messages'),
        h('p.soft', {}, `Messages published to ${project}, newest first. Messages of runs are shown with the runs.`)),
        h('a.button.back', { href: app.address({ project, run: undefined }) }, 'All runs')),
      this.newest, this.list, this.end, this.more);
    this.load();
  }

  close() {
    this.isClosed = true;
  }

  /** The newest messages. Those that are shown stay where the two meet; else they would hide a gap. */
  async load() {
    const page = await this.read();
    if (!page) return;
    const oldest = page.events.at(-1)?.seq;
    const meets = this.isNewest && this.events.some(({ seq }) => seq >= oldest);
    const live = this.isNewest ? this.events.filter(({ seq }) => seq > (page.events[0]?.seq ?? 0)) : [];
    if (!meets) [this.events, this.next] = [live, page.next];
    [this.isNewest, this.missed, this.isLoaded] = [true, 0, true];
    this.add(page.events);
  }

  async loadOlder() {
    const page = await this.read(this.next);
    if (!page) return;
    this.next = page.next;
    this.add(page.events, true);
  }

  /** A page before an id; the first that is not empty, of some. */
  async read(before) {
    this.more.disabled = true;
    try {
      let page;
      for (let n = 0; n < EMPTY_PAGES_MAX && (n === 0 || (page.events.length === 0 && page.next)); n++) {
        page = await api.readMessages(this.project, before && { before });
        before = page.next;
      }
      this.oldest = page.oldest;
      return this.isClosed ? undefined : page;
    } catch (error) {
      if (!this.isClosed) this.app.refused(error);
    } finally {
      this.more.disabled = false;
    }
  }

  /** Messages that were heard. */
  hear(messages) {
    if (!this.isNewest) this.missed += messages.length;
    else this.add(messages);
    this.showEnds();
  }

  /** Takes messages in, each once; what is too much goes at the other end. */
  add(events, isOlder = false) {
    const all = new Map([...this.events, ...events].map((event) => [event.seq, event]));
    this.events = [...all.values()].sort((a, b) => b.seq - a.seq);
    if (this.events.length > SHOWN_MAX && isOlder) {
      this.events = this.events.slice(-SHOWN_MAX);
      this.isNewest = false;
    } else if (this.events.length > SHOWN_MAX) {
      this.events = this.events.slice(0, SHOWN_MAX);
      this.next = this.events.at(-1).id;
    }
    this.draw();
  }

  draw() {
    const wanted = new Set(this.events.map(({ seq }) => seq));
    for (const [seq, row] of this.rows) {
      if (wanted.has(seq)) continue;
      row.remove();
      this.rows.delete(seq);
    }
    this.events.forEach((event, at) => {
      const row = this.rows.get(event.seq) ?? this.newRow(event);
      if (this.list.children[at] !== row) this.list.insertBefore(row, this.list.children[at] ?? null);
    });
    this.showEnds();
  }

  showEnds() {
    this.newest.hidden = this.isNewest;
    setText(this.newest, this.missed > 0 ? `Back to the newest: ${count(this.missed, 'new message')}` : 'Back to the newest');
    this.more.hidden = !this.next;
    setText(this.end, !this.isLoaded ? 'Loading' : this.next ? (this.events.length > 0 ? '' : 'None of the newest messages.')
      : this.oldest > 1 ? 'Older messages have been deleted.' : this.events.length === 0 ? 'No messages have been published yet.' : '');
    this.end.hidden = !this.end.textContent;
  }

  newRow({ seq, type, text, chars, heardAt }) {
    const at = timeIn(text) ?? heardAt;
    const when = h('span.when.numbers', at === undefined ? { title: 'This message has no timestamp and arrived before the page was opened' } : {},
      at === undefined ? '' : heardAt === undefined ? moment(at, api.now()) : clock(at));
    const whole = h('pre', { tabindex: '0', 'aria-label': `Payload of message ${seq}` });
    const shown = () => chars > text.length ? `${text}\n… and ${count(chars - text.length, 'character')} more` : indented(text);
    const folded = h('details', { ontoggle: () => folded.open && setText(whole, shown()) },
      h('summary', {}, h('span.kind', {}, type), h('span.line', {}, text.slice(0, LINE_CHARS_MAX)), when, h('span.numbers', {}, `#${seq}`)), whole);
    const row = h('li', {}, folded);
    this.rows.set(seq, row);
    return row;
  }
}

/** When a message was sent, by what it carries itself: no one else keeps that. */
function timeIn(text) {
  const { timestamp } = parsed(text);
  const at = typeof timestamp === 'string' && /^\d{4}-\d\d-\d\dT/.test(timestamp) ? Date.parse(timestamp) : NaN;
  return Number.isNaN(at) ? undefined : at;
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
