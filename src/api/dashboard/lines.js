/**
 * Text as rows of equal height; long lines are split into several rows. Pure. Only the start of each row is stored, so
 * megabytes of text cost one number per row, and only added text is processed.
 */
import { plain } from '/stepcast.js';

/** The longest unfinished line that is looked at again when more of it comes, in characters. */
const HELD_MAX = 64 * 1024;

/**
 * A terminal's text that comes in pieces, as it is to be seen: of a line whose end has not come, what was told of it is
 * told anew, for a carriage return may begin it anew and an escape sequence may end in the next piece.
 */
export class Screen {
  held = '';

  /** Takes a piece; how many characters of what was told before are not so any more, and what is. */
  take(piece) {
    const raw = this.held + piece;
    const back = plain(this.held).length;
    const unfinished = raw.slice(raw.lastIndexOf('\n') + 1);
    const lines = raw.slice(0, raw.length - unfinished.length);
    const { over, state } = lastStates(unfinished);
    this.held = state.length <= HELD_MAX ? over + state : '';
    return { back, text: plain(lines) + plain(over + state) };
  }
}

/** Of an unfinished line the state that it is in, and the one before that said something, where that counts still. */
function lastStates(line) {
  const at = line.lastIndexOf('\r') + 1;
  const state = line.slice(at);
  if (at === 0 || saysSomething(state)) return { over: '', state };
  const over = line.slice(0, at).split('\r').findLast(saysSomething);
  return { over: over === undefined ? '' : `${over}\r`, state };
}

/** An escape sequence whose end has not come says nothing yet. */
const saysSomething = (state) => plain(state).replace(/\u001b[^]*/, '').trim() !== '';

export class Rows {
  /** @param {number} width characters in a row */
  constructor(width) {
    this.width = width;
    this.clear();
  }

  clear() {
    this.text = '';
    this.starts = [0];
  }

  /** A text that ends in a line's end has an empty last row, which nobody counts. */
  get count() {
    return this.starts.length - (this.starts.at(-1) === this.text.length ? 1 : 0);
  }

  /** The last characters are gone, which are of the last line; more is appended at once. */
  takeBack(count) {
    this.text = this.text.slice(0, this.text.length - count);
    const line = this.text.lastIndexOf('\n') + 1;
    while (this.starts.at(-1) > line) this.starts.pop();
  }

  append(text) {
    this.text += text;
    // What follows is decided by where the last row begins: a row is never changed by what comes behind it.
    this.cut(this.starts.pop());
  }

  prepend(text) {
    const before = new Rows(this.width);
    before.append(text + this.text);
    const added = before.count - this.count;
    Object.assign(this, { text: before.text, starts: before.starts });
    return added;
  }

  /** Lets go of what lies before the line that begins at or behind this place; how many rows and characters that was. */
  dropFront(place) {
    const end = this.text.indexOf('\n', place);
    const at = end === -1 ? place : end + 1;
    const dropped = this.text.slice(0, at);
    const rest = this.text.slice(at);
    const before = this.count;
    this.clear();
    this.append(rest);
    return { rows: before - this.count, dropped };
  }

  /** The text of rows, one below the other. */
  slice(first, last) {
    const rows = [];
    for (let at = first; at < Math.min(last, this.count); at++) rows.push(this.row(at));
    return rows.join('\n');
  }

  row(at) {
    const end = this.starts[at + 1] ?? this.text.length;
    const text = this.text.slice(this.starts[at], end);
    return text.endsWith('\n') ? text.slice(0, -1) : text;
  }

  cut(from) {
    const { text, width, starts } = this;
    let at = from;
    for (;;) {
      starts.push(at);
      const newline = text.indexOf('\n', at);
      const end = newline === -1 ? text.length : newline;
      // A line's pieces, each begun where the one before it is full. Pairs of surrogates stay together.
      while (end - at > width) {
        at += isPair(text, at + width) ? width - 1 : width;
        starts.push(at);
      }
      if (newline === -1) return;
      at = newline + 1;
    }
  }
}

const isPair = (text, at) => {
  const code = text.charCodeAt(at);
  return code >= 0xdc00 && code <= 0xdfff;
};

/** Bytes without the pieces of a character at their beginning, which another part has the rest of. */
export function fromWholeCharacter(bytes) {
  let at = 0;
  while (at < Math.min(3, bytes.length) && (bytes[at] & 0xc0) === 0x80) at += 1;
  return at;
}
