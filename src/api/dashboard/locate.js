/** Finds the position of a path such as `steps[2].dependencies[0]` in a JSON text. Pure. */
import { Scanner, span } from './json.js';

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
