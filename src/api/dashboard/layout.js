/** The layout of a plan's steps. Pure: levels and dependencies go in, rectangles and lines come out. */

/** Sizes of a node and the gaps between them, in pixels; `dense` ones where a level is too full for the others. */
const ROOMY = { width: 204, height: 50, gapX: 44, gapY: 10, rows: 9 };
const DENSE = { width: 168, height: 28, gapX: 36, gapY: 6, rows: 24 };
const HEAD = 30;
const PAD = 16;

/**
 * Levels as columns, left to right; one with too many steps takes several. `levels` are arrays of ids, `dependencies`
 * maps an id to those it waits for.
 */
export function columns(levels, dependencies) {
  const size = levels.some((level) => level.length > ROOMY.rows) ? DENSE : ROOMY;
  const nodes = new Map();
  const bands = [];
  let x = PAD;
  let height = 0;
  levels.forEach((ids, level) => {
    const ordered = byNeighbours(ids, dependencies, nodes);
    const wide = Math.ceil(ids.length / size.rows);
    const tall = Math.ceil(ids.length / wide);
    ordered.forEach((id, at) => {
      const left = x + Math.floor(at / tall) * (size.width + 12);
      nodes.set(id, { id, level, x: left, y: HEAD + PAD + (at % tall) * (size.height + size.gapY) });
    });
    const width = wide * (size.width + 12) - 12;
    bands.push({ level, x, y: 0, width });
    height = Math.max(height, HEAD + PAD * 2 + tall * (size.height + size.gapY) - size.gapY);
    x += width + size.gapX;
  });
  return { kind: size === DENSE ? 'dense' : 'roomy', size, nodes, bands, width: x - size.gapX + PAD, height };
}

/** Levels one below the other, each step as wide as there is room: for narrow screens. */
export function rows(levels, width) {
  const size = { ...ROOMY, width: width - PAD * 2, gapY: 6 };
  const nodes = new Map();
  const bands = [];
  let y = 0;
  levels.forEach((ids, level) => {
    bands.push({ level, x: PAD, y, width: size.width });
    y += HEAD;
    for (const id of ids) {
      nodes.set(id, { id, level, x: PAD, y });
      y += size.height + size.gapY;
    }
    y += 10;
  });
  return { kind: 'rows', size, nodes, bands, width, height: y + 4 };
}

/** The steps of a level in the order of the middle of what they wait for, so that fewer lines cross. Stable. */
function byNeighbours(ids, dependencies, nodes) {
  const middle = (id) => {
    const before = (dependencies.get(id) ?? []).map((other) => nodes.get(other)?.y).filter((y) => y !== undefined);
    return before.length > 0 ? before.reduce((sum, y) => sum + y, 0) / before.length : Infinity;
  };
  const middles = new Map(ids.map((id) => [id, middle(id)]));
  return [...ids].sort((a, b) => middles.get(a) === middles.get(b) ? 0 : middles.get(a) - middles.get(b));
}

/** The lines from each step to those that wait for it, as the `d` of one path. `wanted` picks lines by their two ids. */
export function lines(layout, dependencies, wanted = () => true) {
  let path = '';
  const { width, height } = layout.size;
  for (const [id, before] of dependencies) {
    const to = layout.nodes.get(id);
    for (const other of before) {
      const from = layout.nodes.get(other);
      if (!to || !from || !wanted(other, id)) continue;
      const [x1, y1, x2, y2] = [from.x + width, from.y + height / 2, to.x, to.y + height / 2];
      const bend = Math.min(Math.max((x2 - x1) / 2, 18), 60);
      path += `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
    }
  }
  return path;
}

/** How many lines there are. */
export const lineCount = (dependencies) => [...dependencies.values()].reduce((sum, before) => sum + before.length, 0);

/** The nodes that a window of the drawing shows. */
export function visible(layout, { left, top, right, bottom }) {
  const { width, height } = layout.size;
  const shown = [];
  for (const node of layout.nodes.values()) {
    if (node.x + width >= left && node.x <= right && node.y + height >= top && node.y <= bottom) shown.push(node);
  }
  return shown;
}

/** The node that an arrow key leads to; the same where there is none. */
export function neighbour(layout, id, key) {
  const here = layout.nodes.get(id);
  const isBeyond = {
    ArrowRight: (node) => node.x > here.x, ArrowLeft: (node) => node.x < here.x,
    ArrowDown: (node) => node.x === here.x && node.y > here.y, ArrowUp: (node) => node.x === here.x && node.y < here.y,
  }[key];
  let best = here;
  for (const node of layout.nodes.values()) {
    if (isBeyond(node) && (best === here || distance(here, node, key) < distance(here, best, key))) best = node;
  }
  return best.id;
}

/** Across, the next column counts more than the row. */
function distance(a, b, key) {
  const isAcross = key === 'ArrowLeft' || key === 'ArrowRight';
  return Math.abs(a.x - b.x) * (isAcross ? 100 : 1) + Math.abs(a.y - b.y);
}
