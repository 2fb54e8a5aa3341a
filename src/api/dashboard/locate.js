/** Where in a JSON text the place lies that a path names, such as `steps[2].dependencies[0]`. Pure. */

/** From and to, as offsets into `text`; of the nearest place above, where the path leads to nothing. */
export function locate(text, path) {
  const scanner = new Scanner(text);
  let found = { from: 0, to: text.length };
  try {
    scanner.space();
    let wanted = parse(path);
    // A wrapped plan names its own places from inside.
    if (wanted.length > 0 && typeof wanted[0] === 'string') {
      const inside = new Scanner(text).member('plan');
      if (inside && new Scanner(text).member(wanted[0]) === undefined) wanted = ['plan', ...wanted];
    }
    let at = scanner.at;
    found = span(text, at);
    for (const part of wanted) {
      const next = typeof part === 'number' ? new Scanner(text, at).item(part) : new Scanner(text, at).member(part);
      if (next === undefined) break;
      at = next;
      found = span(text, at);
    }
  } catch {
    // The text is no JSON; what was found so far is the best there is.
  }
  return found;
}

/** Line and column, from 1, of an offset. */
export function lineOf(text, offset) {
  const before = text.slice(0, offset);
  return { line: before.split('\n').length, column: offset - before.lastIndexOf('\n') };
}

/** The offset of a line and a column. */
export function offsetOf(text, line, column) {
  let at = 0;
  for (let n = 1; n < line; n++) {
    const newline = text.indexOf('\n', at);
    if (newline === -1) break;
    at = newline + 1;
  }
  return Math.min(text.length, at + column - 1);
}

/** `steps[2].inputs.x` as `['steps', 2, 'inputs', 'x']`. */
export function parse(path) {
  return [...path.matchAll(/\[(\d+)\]|([^.[\]]+)/g)].map(([, index, name]) => index === undefined ? name : Number(index));
}

function span(text, at) {
  const scanner = new Scanner(text, at);
  scanner.value();
  return { from: at, to: scanner.at };
}

/** Walks over JSON; throws where it is none. */
class Scanner {
  constructor(text, at = 0) {
    this.text = text;
    this.at = at;
    this.space();
  }

  space() {
    while (' \t\r\n'.includes(this.text[this.at] ?? 'x')) this.at += 1;
  }

  take(character) {
    if (this.text[this.at] !== character) throw new Error('no JSON');
    this.at += 1;
    this.space();
  }

  string() {
    const from = this.at;
    if (this.text[this.at] !== '"') throw new Error('no JSON');
    for (this.at += 1; this.text[this.at] !== '"'; this.at += 1) {
      if (this.at >= this.text.length) throw new Error('no JSON');
      if (this.text[this.at] === '\\') this.at += 1;
    }
    this.at += 1;
    return JSON.parse(this.text.slice(from, this.at));
  }

  /** Passes over a value, without what follows it. */
  value() {
    const first = this.text[this.at];
    if (first === '"') this.string();
    else if (first === '{' || first === '[') this.nested();
    else {
      const rest = /^[-+\w.]+/.exec(this.text.slice(this.at, this.at + 64));
      if (!rest) throw new Error('no JSON');
      this.at += rest[0].length;
    }
  }

  nested() {
    let depth = 0;
    do {
      const character = this.text[this.at];
      if (character === undefined) throw new Error('no JSON');
      if (character === '"') this.string();
      else {
        if (character === '{' || character === '[') depth += 1;
        if (character === '}' || character === ']') depth -= 1;
        this.at += 1;
      }
    } while (depth > 0);
  }

  /** Where the value of a member begins; undefined where there is none. */
  member(name) {
    if (this.text[this.at] !== '{') return undefined;
    this.take('{');
    while (this.text[this.at] !== '}') {
      const key = this.string();
      this.space();
      this.take(':');
      if (key === name) return this.at;
      this.value();
      this.space();
      if (this.text[this.at] === ',') this.take(',');
    }
    return undefined;
  }

  /** Where an item of a list begins. */
  item(index) {
    if (this.text[this.at] !== '[') return undefined;
    this.take('[');
    for (let n = 0; this.text[this.at] !== ']'; n++) {
      if (n === index) return this.at;
      this.value();
      this.space();
      if (this.text[this.at] === ',') this.take(',');
    }
    return undefined;
  }
}
