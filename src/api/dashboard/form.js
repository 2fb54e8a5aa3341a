/**
 * A form made from a JSON Schema: `new Form(schema, {values})`, with the `element` to show, and `read()` for the values.
 * Owns its elements. `schema.js` validates values; the server has the final say, and `show` displays its issues at their
 * fields.
 */
import { h, setText } from './dom.js';
import { fieldOf, formPath, initial, isChecked, read } from './schema.js';

let forms = 0;

export class Form {
  /** @param schema a JSON Schema @param {{values?: any}} [options] `values` override the schema's defaults */
  constructor(schema, { values } = {}) {
    this.id = `form-${forms += 1}`;
    this.field = fieldOf(schema);
    this.count = 0;
    this.problem = h('p.field-error', { id: `${this.id}-error`, hidden: true });
    this.part = this.make(this.field, initial(this.field, values), '', true);
    this.element = h('fieldset.schema-form', {}, this.problem, this.part.element);
  }

  /** Whether the form can be edited. */
  set isDisabled(is) {
    this.element.disabled = is;
  }

  focus() {
    this.part.focus();
  }

  /** The values as JSON; undefined if there are errors, which are then shown, with the focus on the first one. */
  read() {
    const { text, issues } = read(this.field, this.part.raw());
    this.show(issues);
    return issues.length > 0 ? undefined : text ?? 'null';
  }

  /** Shows issues at their fields, or at the closest enclosing ones. */
  show(issues) {
    const placed = new Map();
    for (const { path, message } of issues) {
      const part = this.find(formPath(path));
      placed.set(part, [...(placed.get(part) ?? []), message]);
    }
    for (const part of this.parts()) part.say(placed.get(part)?.join('; ') ?? '');
    const general = placed.get(undefined);
    this.problem.hidden = !general;
    setText(this.problem, general?.join('; ') ?? '');
    [...this.parts()].find((part) => placed.has(part))?.focus();
  }

  *parts(part = this.part) {
    yield part;
    for (const inner of part.inner?.() ?? []) yield* this.parts(inner);
  }

  find(path) {
    const around = [...this.parts()].filter((part) => part.path !== '' && (path === part.path || path.startsWith(`${part.path}.`) || path.startsWith(`${part.path}[`)));
    return around.sort((a, b) => b.path.length - a.path.length)[0] ?? (this.part.inner ? undefined : this.part);
  }

  make(field, raw, path, isTop = false) {
    if (field.kind === 'object') return this.makeObject(field, raw, path, isTop);
    if (field.kind === 'list') return this.makeList(field, raw, path);
    return this.makeField(field, raw, path);
  }

  makeObject(field, raw, path, isTop) {
    const parts = field.fields.map((inner) => this.make(inner, raw[inner.name], path ? `${path}.${inner.name}` : inner.name));
    const error = this.newError();
    const children = [!isTop && h('legend', {}, field.title, optional(field)), field.description && h('p.soft', {}, field.description), error, ...parts.map(({ element }) => element)];
    return {
      path, inner: () => parts,
      element: isTop ? h('div.fields', {}, ...children) : h('fieldset', {}, ...children),
      raw: () => Object.fromEntries(field.fields.map((inner, at) => [inner.name, parts[at].raw()])),
      say: (text) => say(error, text),
      focus: () => parts[0]?.focus(),
    };
  }

  makeList(field, raw, path) {
    const error = this.newError();
    const rows = h('ol.list-rows');
    let parts = [];
    const name = field.title || 'List';
    const add = h('button.plain', { type: 'button', 'aria-label': `Add to ${name}`, onclick: () => append(initial(field.item)).focus() }, 'Add');
    const number = () => parts.forEach((part, at) => {
      part.path = `${path}[${at}]`;
      part.rename(`${name}, ${at + 1}`);
    });
    const append = (value) => {
      const part = this.makeField(field.item, value, '', `${name}, ${parts.length + 1}`);
      const remove = h('button.plain', { type: 'button', onclick: () => {
        row.remove();
        parts = parts.filter((other) => other !== part);
        number();
        (parts.at(-1) ?? { focus: () => add.focus() }).focus();
      } }, 'Remove', h('span.visually-hidden', {}, ` from ${name}`));
      const row = h('li', {}, part.element, remove);
      rows.append(row);
      parts = [...parts, part];
      number();
      return part;
    };
    for (const value of raw) append(value);
    return {
      path, inner: () => parts,
      element: h('fieldset', {}, h('legend', {}, name, optional(field)), field.description && h('p.soft', {}, field.description), error, rows, add),
      raw: () => parts.map((part) => part.raw()),
      say: (text) => say(error, text),
      focus: () => (parts[0] ?? { focus: () => add.focus() }).focus(),
    };
  }

  /** A single field. An entry of a list has no label of its own; `label` names it. */
  makeField(field, raw, path, label) {
    const id = `${this.id}-${this.count += 1}`;
    const error = this.newError();
    const control = inputOf(field, raw, id);
    const note = field.description && label === undefined ? h('p.soft', { id: `${id}-note` }, field.description) : undefined;
    if (label !== undefined) control.setAttribute('aria-label', label);
    if (field.isRequired) control.setAttribute('aria-required', 'true');
    const described = [note && note.id, error.id].filter(Boolean).join(' ');
    control.setAttribute('aria-describedby', described);
    const isBox = control.type === 'checkbox';
    const title = label === undefined && h('label', { for: id }, field.title || 'Value', optional(field));
    return {
      path,
      element: h(isBox ? 'div.field.box' : 'div.field', {}, ...(isBox ? [control, title] : [title, control]), note, error),
      raw: () => isBox ? String(control.checked) : control.value,
      rename: (name) => control.setAttribute('aria-label', name),
      say: (text) => {
        say(error, text);
        control.setAttribute('aria-invalid', String(text !== ''));
      },
      focus: () => control.focus(),
    };
  }

  newError() {
    return h('p.field-error', { id: `${this.id}-error-${this.count += 1}`, hidden: true });
  }
}

function say(error, text) {
  error.hidden = text === '';
  setText(error, text);
}

const optional = ({ isRequired, kind }) => !isRequired && kind !== 'boolean' && h('span.soft', {}, ' optional');

/** The input element of each kind. Numbers are text, so that they stay as they were typed. */
function inputOf(field, raw, id) {
  const { kind, schema } = field;
  const hint = Array.isArray(schema.examples) && schema.examples.length > 0 ? String(schema.examples[0]) : null;
  const input = (type, more) => h('input', { id, type, value: raw, autocomplete: 'off', placeholder: hint, ...more });
  switch (kind) {
    case 'choice': return h('select', { id }, ...choices(field.options.map(({ title }, at) => [String(at), title]), raw));
    case 'boolean':
      if (isChecked(field)) return h('input', { id, type: 'checkbox', checked: raw === 'true' });
      return h('select', { id }, ...choices([['true', 'Yes'], ['false', 'No']], raw));
    case 'long': case 'json': return h('textarea', { id, value: raw, rows: kind === 'json' ? 5 : 4, spellcheck: String(kind === 'long'), placeholder: hint });
    case 'number': return input('text', { inputmode: 'decimal' });
    case 'integer': return input('text', { inputmode: 'numeric' });
    case 'datetime': return input('datetime-local', { step: 1 });
    default: return input(kind);
  }
}

const choices = (options, chosen) => [['', 'Choose'], ...options].map(([value, title]) => h('option', { value, selected: value === chosen }, title));
