/**
 * JSON as text. Documents of servers and users are shown and sent unchanged: parsing and serializing would turn
 * 9007199254740993 into ...992, 2.0 into 2 and 1e400 into null. Pure.
 */

const INDENT = '  ';

/** Of what a message carries so many characters are held. */
const PAYLOAD_CHARS_MAX = 16_384;

/** A string, a mark, or anything else that stands between marks and white space, such as a number. */
const TOKENS = /"(?:[^"\\]|\\[^])*"|[{}[\]:,]|[^\s"{}[\]:,]+/gu;

/** The same JSON, laid out for reading; every string and number as it was written. What is no JSON stays as it is. */
export function indented(text) {
  const tokens = isJson(text) && text.match(TOKENS);
  if (!tokens) return text;
  let shown = '';
  let depth = 0;
  const line = () => `\n${INDENT.repeat(depth)}`;
  for (const [at, token] of tokens.entries()) {
    const isEmpty = (token === '}' || token === ']') && '{['.includes(tokens[at - 1]);
    if ((token === '}' || token === ']') && !isEmpty) {
      depth -= 1;
      shown += line();
    } else if (isEmpty) depth -= 1;
    shown += token;
    if (token === '{' || token === '[') {
      depth += 1;
      if (!'}]'.includes(tokens[at + 1])) shown += line();
    } else if (token === ',') shown += line();
    else if (token === ':') shown += ' ';
  }
  return shown;
}

/** The text of the value to which `keys` lead, names and places in lists; undefined where they lead to nothing. */
export function textAt(text, keys) {
  const place = placeAt(text, keys);
  return place && text.slice(place.from, place.to);
}

/** Where the value lies to which `keys` lead, as offsets into `text`. */
export function placeAt(text, keys) {
  let at = new Scanner(text).at;
  for (const key of keys) {
    at = typeof key === 'number' ? new Scanner(text, at).item(key) : new Scanner(text, at).member(key);
    if (at === undefined) return undefined;
  }
  return span(text, at);
}

/** The same JSON with `value`, which is JSON too, at `keys`: in place of what is there, or first in the object that lacks it. */
export function withValue(text, keys, value) {
  const place = placeAt(text, keys);
  if (place) return text.slice(0, place.from) + value + text.slice(place.to);
  const around = placeAt(text, keys.slice(0, -1));
  const isEmpty = /^\{\s*\}$/.test(text.slice(around.from, around.to));
  return `${text.slice(0, around.from + 1)}${JSON.stringify(keys.at(-1))}:${value}${isEmpty ? '' : ','}${text.slice(around.from + 1)}`;
}

/** The texts of the items of the list to which `keys` lead. */
export function itemsAt(text, keys) {
  const scanner = new Scanner(text, placeAt(text, keys)?.from ?? text.length);
  const items = [];
  for (scanner.take('['); text[scanner.at] !== ']';) {
    const from = scanner.at;
    scanner.value();
    items.push(text.slice(from, scanner.at));
    scanner.space();
    if (text[scanner.at] === ',') scanner.take(',');
  }
  return items;
}

/** The payload of a message, of a long one the beginning; the server writes it behind everything else. */
export function payloadOf(message) {
  const whole = message.slice(message.indexOf('"payload":') + '"payload":'.length, message.lastIndexOf('}'));
  return { text: whole.slice(0, PAYLOAD_CHARS_MAX), chars: whole.length };
}

/** From and to of the value that begins at an offset. */
export function span(text, at) {
  const scanner = new Scanner(text, at);
  const from = scanner.at;
  scanner.value();
  return { from, to: scanner.at };
}

/** Is this JSON? */
export function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Walks over JSON; throws where it is none. */
export class Scanner {
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

  /** Where the value of a member begins; undefined where there is none. Of several of one name the last one counts. */
  member(name) {
    if (this.text[this.at] !== '{') return undefined;
    let found;
    this.take('{');
    while (this.text[this.at] !== '}') {
      const key = this.string();
      this.space();
      this.take(':');
      if (key === name) found = this.at;
      this.value();
      this.space();
      if (this.text[this.at] === ',') this.take(',');
    }
    return found;
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
