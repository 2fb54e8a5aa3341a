/**
 * From a JSON Schema to the fields of a form, and from the entered values to JSON. Pure. Unsupported parts of a schema become
 * a field for JSON, and the server has the final say on every value.
 *
 * A field is `{kind, name, title, description, isRequired, schema}`; an `object` has `fields`, a `list` has `item`, a
 * `choice` has `options`. Values are stored as in the form: as text, or for lists and objects as the values of their parts.
 */

import { isJson } from './json.js';

/** Objects within objects that have fields of their own; below that it is JSON. */
const DEPTH_MAX = 4;

/** References that are followed from one schema to the next. */
const REFERENCES_MAX = 8;

/** A text that may be longer than this has more than one line, in characters. */
const LINE_CHARS_MAX = 200;

/** JSON's numbers. */
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/;
const INTEGER = /^-?(0|[1-9]\d*)(\.0+)?$/;

/** Values of these kinds are text in quotes. */
const TEXTS = new Set(['text', 'long', 'date', 'datetime', 'email', 'url', 'password']);

const KIND_OF_FORMAT = { date: 'date', 'date-time': 'datetime', email: 'email', uri: 'url', url: 'url', password: 'password', textarea: 'long', markdown: 'long' };

/** The field of a schema; of `{}` or `true` one for any JSON. */
export function fieldOf(schema, { name = '', isRequired = true, root = schema, depth = 0 } = {}) {
  const plain = resolved(schema, root);
  const { title, description } = plain;
  const field = { name, title: title?.trim() || titleOf(name), description: description ?? '', isRequired, schema: plain };
  const within = (inner, more) => fieldOf(inner, { root, depth: depth + 1, ...more });
  return { ...field, ...shapeOf(plain, typeOf(plain), depth, within) };
}

function shapeOf(schema, { type, isNullable }, depth, within) {
  const options = optionsOf(schema);
  if (options) return { kind: 'choice', options };
  if (type === 'object' && schema.properties && depth < DEPTH_MAX) {
    const required = new Set(schema.required ?? []);
    const fields = Object.entries(schema.properties).map(([name, inner]) => within(inner, { name, isRequired: required.has(name) }));
    return { kind: 'object', fields };
  }
  if (type === 'array') {
    const item = within(schema.items ?? {}, { name: '', isRequired: true });
    return ['object', 'list', 'json'].includes(item.kind) ? { kind: 'json' } : { kind: 'list', item };
  }
  if (type === 'boolean') return { kind: 'boolean', isNullable };
  if (type === 'number' || type === 'integer') return { kind: type, isNullable };
  if (type === 'string') return { kind: textKind(schema), isNullable };
  return { kind: 'json' };
}

function textKind({ format, maxLength, writeOnly, default: given }) {
  if (KIND_OF_FORMAT[format]) return KIND_OF_FORMAT[format];
  if (writeOnly) return 'password';
  return maxLength > LINE_CHARS_MAX || (typeof given === 'string' && given.includes('\n')) ? 'long' : 'text';
}

/** The one type that a value has besides null. */
function typeOf({ type, properties, items }) {
  const types = [type ?? (properties ? 'object' : items ? 'array' : [])].flat();
  const others = types.filter((one) => one !== 'null');
  return { type: others.length === 1 ? others[0] : undefined, isNullable: types.length > others.length };
}

/** The values among which to choose: of `enum`, of `const`, or of alternatives that are each one value with a title. */
function optionsOf(schema) {
  const option = (value, title) => ({ value, title: title ?? (typeof value === 'string' ? value : JSON.stringify(value)) });
  if (Array.isArray(schema.enum)) return schema.enum.map((value, at) => option(value, schema.enumNames?.[at]));
  if ('const' in schema) return [option(schema.const)];
  const alternatives = schema.oneOf ?? schema.anyOf;
  if (!Array.isArray(alternatives) || !alternatives.every((one) => one && typeof one === 'object' && 'const' in one)) return undefined;
  return alternatives.map(({ const: value, title }) => option(value, title));
}

/** What a schema refers to, within the same document. */
function resolved(schema, root) {
  let found = schema;
  for (let n = 0; n < REFERENCES_MAX && typeof found?.$ref === 'string'; n++) {
    const { $ref, ...beside } = found;
    const keys = $ref.startsWith('#') ? $ref.slice(1).split('/').slice(1) : [];
    const target = keys.reduce((inner, key) => inner?.[decodeURIComponent(key).replaceAll('~1', '/').replaceAll('~0', '~')], root);
    found = { ...(target && typeof target === 'object' ? target : {}), ...beside };
  }
  return found && typeof found === 'object' ? found : {};
}

/** `dueDate` and `due_date` as people write it: `Due date`. */
function titleOf(name) {
  const words = name.replace(/([a-z\d])([A-Z])/g, '$1 $2').replace(/[_-]+/g, ' ').trim().toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** What a form begins with: `value` where there is one, or else the schema's default. */
export function initial(field, value = field.schema.default) {
  const isThere = value !== undefined && value !== null;
  switch (field.kind) {
    case 'object': return Object.fromEntries(field.fields.map((inner) => [inner.name, initial(inner, isThere ? value[inner.name] : undefined)]));
    case 'list': return Array.isArray(value) ? value.map((one) => initial(field.item, one)) : [];
    case 'choice': {
      const at = value === undefined ? -1 : field.options.findIndex((option) => JSON.stringify(option.value) === JSON.stringify(value));
      return at >= 0 ? String(at) : field.isRequired && field.options.length === 1 ? '0' : '';
    }
    case 'boolean': return isThere ? String(Boolean(value)) : isChecked(field) ? 'false' : '';
    case 'datetime': return isThere ? localTime(value) : '';
    case 'json': return value === undefined ? '' : JSON.stringify(value, null, 2);
    default: return isThere ? String(value) : '';
  }
}

/** Is this yes or no, and nothing else? Then a box to tick says it; else there is a third answer: none. */
export const isChecked = (field) => field.isRequired || typeof field.schema.default === 'boolean';

/**
 * What was filled in, as JSON with numbers as they were typed, and what is wrong with it. Without `text` there is nothing:
 * the value is left out.
 * @returns {{text?: string, issues: {path: string, message: string}[]}}
 */
export function read(field, raw, path = '') {
  if (field.kind === 'object') return readObject(field, raw, path);
  if (field.kind === 'list') return readList(field, raw, path);
  if (raw === '' && !(field.kind === 'json' && field.isRequired && !path)) return readNothing(field, path);
  const text = textOf(field, raw);
  const message = wrong(field, raw, text);
  return message ? { issues: [{ path, message }] } : { text, issues: [] };
}

function readNothing(field, path) {
  if (!field.isRequired) return { issues: [] };
  return field.isNullable ? { text: 'null', issues: [] } : { issues: [{ path, message: 'required' }] };
}

/** An object that need not be there, and of which nothing is filled in, is left out with all that would be needed in it. */
function readObject(field, raw, path) {
  const parts = field.fields.map((inner) => ({ name: inner.name, ...read(inner, raw[inner.name], path ? `${path}.${inner.name}` : inner.name) }));
  const there = parts.filter(({ text }) => text !== undefined);
  const isEmpty = field.fields.every((inner) => isUntouched(inner, raw[inner.name]));
  if (!field.isRequired && isEmpty) return { issues: [] };
  const text = `{${there.map((part) => `${JSON.stringify(part.name)}:${part.text}`).join()}}`;
  return { text, issues: parts.flatMap(({ issues }) => issues) };
}

function isUntouched(field, raw) {
  if (field.kind === 'object') return field.fields.every((inner) => isUntouched(inner, raw[inner.name]));
  if (field.kind === 'list') return raw.length === 0;
  return raw === '' || (raw === 'false' && field.kind === 'boolean' && initial(field) === raw);
}

function readList(field, raw, path) {
  const parts = raw.map((one, at) => read(field.item, one, `${path}[${at}]`));
  const issues = parts.flatMap((part) => part.issues);
  const texts = parts.map(({ text }) => text).filter((text) => text !== undefined);
  if (texts.length === 0 && issues.length === 0 && !field.isRequired) return { issues };
  const { minItems = 0, maxItems = Infinity, uniqueItems } = field.schema;
  if (raw.length < minItems) issues.push({ path, message: `at least ${minItems} required` });
  else if (raw.length > maxItems) issues.push({ path, message: `at most ${maxItems} allowed` });
  else if (uniqueItems && new Set(texts).size < texts.length) issues.push({ path, message: 'entries must be unique' });
  return { text: `[${texts.join()}]`, issues };
}

function textOf(field, raw) {
  if (field.kind === 'choice') return JSON.stringify(field.options[Number(raw)].value);
  if (field.kind === 'datetime') return JSON.stringify(Number.isNaN(Date.parse(raw)) ? raw : new Date(raw).toISOString());
  return TEXTS.has(field.kind) ? JSON.stringify(raw) : String(raw).trim();
}

/** What is wrong with a value, for people; undefined where nothing is. */
function wrong({ kind, schema }, raw, text) {
  if (kind === 'number') return NUMBER.test(text) ? outOfRange(schema, Number(text)) : 'must be a number';
  if (kind === 'integer') return INTEGER.test(text) ? outOfRange(schema, Number(text)) : 'must be an integer';
  if (kind === 'json') return isJson(text) ? undefined : 'must be valid JSON';
  if (kind === 'datetime' && Number.isNaN(Date.parse(raw))) return 'must be a date and time';
  return TEXTS.has(kind) ? badText(schema, raw) : undefined;
}

function outOfRange({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }, value) {
  if (value < minimum) return `must be at least ${minimum}`;
  if (value > maximum) return `must be at most ${maximum}`;
  if (value <= exclusiveMinimum) return `must be greater than ${exclusiveMinimum}`;
  if (value >= exclusiveMaximum) return `must be less than ${exclusiveMaximum}`;
}

function badText({ minLength, maxLength, pattern }, raw) {
  const { length } = [...raw];
  if (length < minLength) return `must have at least ${minLength} character${minLength === 1 ? '' : 's'}`;
  if (length > maxLength) return `must have at most ${maxLength} characters`;
  if (pattern !== undefined && !matches(pattern, raw)) return `must match ${pattern}`;
}

/** A pattern that this browser can't read is left to the server. */
function matches(pattern, text) {
  try {
    return new RegExp(pattern, 'u').test(text);
  } catch {
    return true;
  }
}

/** A moment as a field for dates and times has it, in this place's time. */
function localTime(value) {
  const time = Date.parse(value);
  if (Number.isNaN(time)) return '';
  return new Date(time - new Date(time).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** What the server's path of an issue is within the form: `payload.a[0]`, `inputs.a[0]` and `/a/0` are all `a[0]`. */
export function formPath(path = '') {
  const dotted = path.startsWith('/') ? path.slice(1).split('/').map((key, at) => /^\d+$/.test(key) ? `[${key}]` : `${at ? '.' : ''}${key}`).join('') : path;
  return dotted.replace(/^\$?(payload|inputs)(\.|(?=\[)|$)/, '');
}
