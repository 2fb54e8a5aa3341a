/**
 * A step's output of any size. Owns a window of a few megabytes into the file on the server, which it reads by ranges. The page
 * only contains the visible rows. Follows the end while the output grows, until the user scrolls up.
 */
import { outputPath, request } from './api.js';
import { h, setText } from './dom.js';
import { bytes as bytesText } from './format.js';
import { isEnded } from './estimate.js';
import { indented } from './json.js';
import { plain } from '/stepcast.js';
import { Rows, Screen, fromWholeCharacter } from './lines.js';

const ROW = 18;
/** What is read at a time, and what the window holds at most, in bytes. */
const PAGE = 256 * 1024;
const WINDOW = 4 * 1024 * 1024;
/** Reads of what grows are at least so far apart, and no more than a third of the time is spent on them, in milliseconds. */
const READ_INTERVAL = 250;
/** JSON up to this size is shown with its indentation. */
const PRETTY_MAX = 256 * 1024;
const MARGIN_ROWS = 40;
/** A server that is away is asked again after so many milliseconds. */
const AWAY_INTERVAL = 2_000;

/** What is looked at first, by the step's state: of one that has completed its result, of others what they wrote. */
const BEST = { running: ['stdout', 'stderr', 'text'], retrying: ['stderr', 'stdout', 'text'], failed: ['stderr', 'stdout', 'text'], cancelled: ['stdout', 'stderr', 'text'] };

const STREAMS = { '': 'Output', stdout: 'stdout', stderr: 'stderr', text: 'text' };

export class OutputView {
  /** Of a step, or of one `item` of it; `back` leads to where it was chosen from. */
  constructor(project, runId, stepId, app, { item, back } = {}) {
    Object.assign(this, { project, runId, stepId, app, item, abort: new AbortController() });
    this.name = item === undefined ? stepId : `${stepId}[${item}]`;
    this.back = back && h('button.plain', { type: 'button', onclick: back }, '‹ Items');
    this.buttons = Object.entries(STREAMS).map(([name, text]) =>
      h('button.plain', { type: 'button', 'data-stream': name, 'aria-pressed': 'false', hidden: name !== '', onclick: () => this.choose(name) }, text));
    this.size = h('span.size.numbers');
    this.toStart = h('button.plain', { type: 'button', onclick: () => this.openAt('start') }, 'Start');
    this.toEnd = h('button.plain', { type: 'button', onclick: () => this.openAt('end') }, 'End');
    this.save = h('button.plain', { type: 'button', onclick: () => this.download() }, 'Save');
    this.text = h('pre');
    this.spacer = h('div');
    this.note = h('p.note', { hidden: true });
    this.screen = h('div.screen', { tabindex: '0', role: 'region', 'aria-label': 'Output' }, this.spacer, this.text, this.note);
    this.screen.addEventListener('scroll', () => this.scrolled(), { passive: true });
    this.resized = new ResizeObserver(() => this.rewrap());
    this.resized.observe(this.screen);
    this.element = h('div.output', {}, h('div.output-bar', {}, this.back, this.back && h('code', {}, this.name), ...this.buttons, this.size, this.toStart, this.toEnd, this.save), this.screen);
    this.rows = new Rows(this.columns());
    this.stream = undefined;
  }

  close() {
    this.abort.abort();
    this.resized.disconnect();
    clearTimeout(this.timer);
  }

  focus() {
    (this.back ?? this.screen).focus();
  }

  /** Is told of the step whenever it has moved; that it spoke means that there is more to read. */
  update(step) {
    const before = this.step;
    this.step = step;
    if (step === before) return;
    if (!before) return this.find();
    if (step.attempt !== before.attempt && step.attempt > 1) return this.openAt('end');
    // What there is to see may be another thing now, such as a result; but who reads a stream goes on reading it.
    if (isEnded(step.status) && !isEnded(before.status)) return this.find(this.stream !== '' && this.total > 0);
    if (step.heardAt !== before.heardAt) this.readSoon();
  }

  /** Looks which streams have something, and opens the best one, unless one `isRead` already. */
  async find(isRead = false) {
    const names = Object.keys(STREAMS);
    const lengths = await Promise.all(names.map((name) => this.length(name)));
    if (this.abort.signal.aborted) return;
    if (lengths.includes(undefined)) return this.later(() => this.find(isRead));
    names.forEach((name, at) => { this.buttons[at].hidden = name !== '' && !(lengths[at] > 0); });
    if (isRead) return this.readSoon();
    if (this.chosen === undefined) this.stream = BEST[this.step.status]?.find((name) => lengths[names.indexOf(name)] > 0) ?? '';
    this.press();
    await this.openAt(this.stream === '' ? 'start' : 'end', lengths[names.indexOf(this.stream)]);
  }

  /** While the server is away: tries again. */
  later(call) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = undefined;
      if (!this.abort.signal.aborted) call();
    }, AWAY_INTERVAL);
  }

  /** Bytes of a stream; undefined where nobody answers. */
  async length(stream) {
    try {
      const answer = await request(this.path(stream), { method: 'HEAD', signal: this.abort.signal });
      return Number(answer.headers.get('content-length'));
    } catch (error) {
      return error.status === 0 ? undefined : 0;
    }
  }

  path(stream = this.stream) {
    return outputPath(this.project, this.runId, this.stepId, { stream, item: this.item });
  }

  choose(name) {
    this.chosen = this.stream = name;
    this.press();
    this.openAt(name === '' ? 'start' : 'end');
  }

  press() {
    for (const button of this.buttons) button.setAttribute('aria-pressed', String(button.dataset.stream === this.stream));
  }

  /** Reads the beginning, or the end, into an empty window. */
  async openAt(where, known) {
    const reading = this.reading = {};
    // Until then nothing is read on: what the window holds is of another place, and may be of another stream.
    this.isOpening = true;
    this.hasMore = false;
    this.isFollowing = where === 'end';
    const length = known ?? await this.length(this.stream);
    if (reading !== this.reading) return;
    if (length === undefined) return this.later(() => this.openAt(where));
    const from = where === 'end' ? Math.max(0, length - PAGE) : 0;
    const part = length > 0 ? await this.read(from, Math.min(length, from + PAGE)) : { bytes: new Uint8Array(), total: 0 };
    if (reading !== this.reading) return;
    if (!part) return this.later(() => this.openAt(where));
    this.attempt = part.attempt;
    const skipped = from > 0 ? startOfLine(part.bytes) : 0;
    this.first = from + skipped;
    this.rows.clear();
    this.decoder = new TextDecoder();
    this.terminal = new Screen();
    this.take(part.bytes.subarray(skipped), part);
    this.isOpening = false;
    this.screen.scrollTop = where === 'end' ? this.screen.scrollHeight : 0;
    this.draw();
    if (this.hasMore || (this.last < this.total && this.isFollowing)) this.readSoon();
  }

  /** Text behind what is in the window. */
  take(bytes, { total, isJson }) {
    this.last = (this.rows.text === '' ? this.first : this.last) + bytes.length;
    this.total = total;
    const isWhole = this.first === 0 && this.last >= total;
    const text = this.decoder.decode(bytes, { stream: !isWhole });
    const { back, text: seen } = this.terminal.take(isJson && isWhole && total <= PRETTY_MAX ? indented(text) : text);
    this.rows.takeBack(back);
    this.rows.append(seen);
  }

  /** Bytes of the output, and how many there are in all. */
  async read(from, to) {
    try {
      const answer = await request(this.path(), { headers: { range: `bytes=${from}-${to - 1}` }, signal: this.abort.signal });
      const bytes = new Uint8Array(await answer.arrayBuffer());
      const total = Number(/\/(\d+)$/.exec(answer.headers.get('content-range') ?? '')?.[1] ?? bytes.length);
      const attempt = answer.headers.get('stepcast-attempt');
      return { bytes, total, attempt, isJson: (answer.headers.get('content-type') ?? '').includes('json') };
    } catch (error) {
      if (this.abort.signal.aborted) return undefined;
      if (error.status === 416) return { bytes: new Uint8Array(), total: 0, isJson: false };
      this.app.refused(error);
      return undefined;
    }
  }

  /** Another attempt writes anew: what was read of the one before does not go on in this part. */
  isAnotherAttempt({ attempt }) {
    return this.attempt !== undefined && attempt !== undefined && attempt !== this.attempt;
  }

  readSoon() {
    if (this.timer || this.isReading || this.isOpening) {
      this.hasMore = true;
      return;
    }
    const pause = Math.max(READ_INTERVAL, 2 * (this.tookMs ?? 0)) - (performance.now() - (this.readAt ?? -Infinity));
    this.timer = setTimeout(() => this.readOn(), Math.max(0, pause));
  }

  /** Reads what has come behind the window. */
  async readOn() {
    this.timer = undefined;
    if (this.isOpening) this.hasMore = true;
    if (this.isOpening || this.total === undefined) return;
    if (!(this.total > 0)) return this.find();
    const { reading } = this;
    this.isReading = true;
    this.hasMore = false;
    const begun = performance.now();
    // A byte that is known already, so that there always is something to be had.
    const from = Math.max(0, this.last - 1);
    const part = await this.read(from, from + 1 + PAGE);
    this.isReading = false;
    this.readAt = performance.now();
    this.tookMs = this.readAt - begun;
    if (!part || reading !== this.reading) return;
    if (this.isAnotherAttempt(part) || part.total < this.last) return this.openAt('end');
    this.total = part.total;
    if (!this.isFollowing) {
      // Whoever reads further up is not disturbed: what is here stays, and what is new is only counted.
      return this.drawSize();
    }
    // Who follows wants the end; of what came faster than it can be read, that alone.
    if (part.total - this.last > PAGE) return this.openAt('end', part.total);
    this.take(part.bytes.subarray(this.last - from), part);
    this.trim();
    this.draw();
    if (this.hasMore || this.last < this.total) this.readSoon();
  }

  /** The window is bounded: what was read first goes. */
  trim() {
    if (this.last - this.first <= WINDOW) return 0;
    const { rows, dropped } = this.rows.dropFront(Math.floor(this.rows.text.length / 2));
    this.first += new TextEncoder().encode(dropped).length;
    return rows;
  }

  async readBack() {
    if (this.isReading || this.isOpening || !(this.first > 0)) return;
    const { reading } = this;
    this.isReading = true;
    const to = this.first;
    const from = Math.max(0, to - PAGE);
    const part = await this.read(from, to);
    this.isReading = false;
    if (!part || reading !== this.reading) return;
    if (this.isAnotherAttempt(part)) return this.openAt('end');
    const skipped = from > 0 ? startOfLine(part.bytes) : 0;
    this.first = from + skipped;
    const added = this.rows.prepend(plain(new TextDecoder().decode(part.bytes.subarray(skipped))));
    this.boundBehind();
    this.draw();
    this.screen.scrollTop += added * ROW;
  }

  /** Reading backwards, what lies far behind goes; it is read again on the way down. */
  boundBehind() {
    if (this.last - this.first <= WINDOW) return;
    const kept = this.rows.text.slice(0, this.rows.text.lastIndexOf('\n', WINDOW / 2) + 1) || this.rows.text.slice(0, WINDOW / 2);
    this.last = this.first + new TextEncoder().encode(kept).length;
    this.rows.clear();
    this.rows.append(kept);
    this.decoder = new TextDecoder();
    this.terminal = new Screen();
    this.isFollowing = false;
  }

  async readForth() {
    if (this.isReading || this.isOpening || !(this.last < this.total)) return;
    const { reading } = this;
    this.isReading = true;
    const part = await this.read(this.last, this.last + PAGE);
    this.isReading = false;
    if (!part || reading !== this.reading) return;
    if (this.isAnotherAttempt(part)) return this.openAt('end');
    this.take(part.bytes, part);
    const gone = this.trim();
    this.screen.scrollTop -= gone * ROW;
    this.draw();
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.screen;
    const isAtEnd = scrollTop + clientHeight >= scrollHeight - ROW;
    if (scrollTop < (this.scrollTop ?? 0) && !isAtEnd) this.isFollowing = false;
    else if (isAtEnd && !(this.last < this.total)) this.isFollowing = true;
    const isDown = scrollTop > (this.scrollTop ?? 0);
    this.scrollTop = scrollTop;
    if (scrollTop < clientHeight && this.first > 0 && !isDown) this.readBack();
    if (scrollTop + 2 * clientHeight > scrollHeight && this.last < this.total && isDown && !this.isFollowing) this.readForth();
    this.fill();
    this.drawSize();
  }

  draw() {
    this.spacer.style.height = `${this.rows.count * ROW + 16}px`;
    if (this.isFollowing) this.screen.scrollTop = this.screen.scrollHeight;
    this.note.hidden = this.rows.count > 0;
    setText(this.note, this.step.status === 'pending' ? 'The step has not started.' : isEnded(this.step.status) ? 'The step has no output.' : 'No output yet.');
    this.fill();
    this.drawSize();
  }

  /** Puts the rows that are seen into the page. */
  fill() {
    const first = Math.max(0, Math.floor(this.screen.scrollTop / ROW) - MARGIN_ROWS);
    const last = first + Math.ceil(this.screen.clientHeight / ROW) + 2 * MARGIN_ROWS;
    const text = this.rows.slice(first, last);
    this.text.style.transform = `translateY(${first * ROW + 8}px)`;
    setText(this.text, text);
  }

  drawSize() {
    const { total = 0, first = 0, last = 0 } = this;
    const isAll = first === 0 && last >= total;
    setText(this.size, total === 0 ? '' : isAll ? bytesText(total) : `${bytesText(first)} to ${bytesText(last)} of ${bytesText(total)}`);
    const isLive = this.step && !isEnded(this.step.status);
    setText(this.toEnd, isLive ? 'Follow' : 'End');
    this.toEnd.setAttribute('aria-pressed', String(Boolean(isLive && this.isFollowing)));
    this.save.hidden = this.toStart.hidden = this.toEnd.hidden = total === 0;
  }

  /** Characters that fit into a row. */
  columns() {
    const width = this.screen.clientWidth - 28;
    this.charWidth ??= measure(this.text);
    return width > 0 ? Math.max(20, Math.floor(width / (this.charWidth || 7.5))) : 120;
  }

  rewrap() {
    const width = this.columns();
    if (width === this.rows.width) return this.fill();
    const { text } = this.rows;
    this.rows = new Rows(width);
    this.rows.append(text);
    if (this.step && this.total !== undefined) this.draw();
  }

  async download() {
    try {
      const content = await (await request(this.path(), { signal: this.abort.signal })).blob();
      const url = URL.createObjectURL(content);
      h('a', { href: url, download: `${this.name}${this.stream ? `.${this.stream}` : ''}.txt` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      this.app.refused(error);
    }
  }
}

function measure(element) {
  const probe = h('span', {}, 'm'.repeat(100));
  element.append(probe);
  const width = probe.getBoundingClientRect().width / 100;
  probe.remove();
  return width;
}

/** Where the first whole line begins; where there is none, the first whole character. */
function startOfLine(bytes) {
  const newline = bytes.indexOf(10);
  return newline === -1 || newline === bytes.length - 1 ? fromWholeCharacter(bytes) : newline + 1;
}
