/** Creates elements. Text stays text: nothing here parses HTML. */

/**
 * An element: `h('button.primary', {onclick, 'aria-label': '...'}, 'Run')`. Attributes that are functions or known
 * properties are set as properties; null and false leave out.
 */
export function h(selector, attributes = {}, ...children) {
  const [tag, ...classes] = selector.split('.');
  const element = document.createElement(tag || 'div');
  if (classes.length > 0) element.className = classes.join(' ');
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function' || name === 'value' || name === 'checked') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** One of the symbols of index.html. */
export const icon = (name) => svg('svg', { class: `icon ${name}`, 'aria-hidden': 'true' }, svg('use', { href: `#i-${name}` }));

/** Sets text only where it is another one, so that nothing is laid out for nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows what changes the icon's name only where it is another one. */
export function setIcon(element, name) {
  if (element.dataset.icon === name) return;
  element.dataset.icon = name;
  element.setAttribute('class', `icon ${name}`);
  element.firstChild.setAttribute('href', `#i-${name}`);
}
