// A picture of the terminal, from the real program in a real one (tmux): node terminal.mjs FILE.png [SECONDS]
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { PROGRAM, ROOT, launchBrowser } from './program.mjs';

const [file = '/tmp/terminal.png', seconds = '4'] = process.argv.slice(2);
const [COLUMNS, LINES] = [108, 28];
const tmux = (...words) => execFileSync('tmux', ['-L', 'stepcast-picture', ...words], { cwd: ROOT, encoding: 'utf8' });

const command = `${PROGRAM} run examples/plans/ci.json --config examples/stepcast.toml; sleep 60`;
tmux('-f', '/dev/null', 'new-session', '-d', '-x', `${COLUMNS}`, '-y', `${LINES}`, command);
await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1000));
const screen = tmux('capture-pane', '-e', '-p');
tmux('kill-server');

const COLORS = ['#6e7781', '#ff7b72', '#56d364', '#e3b341', '#79c0ff', '#d2a8ff', '#56d4dd', '#e6edf3'];
const escape = (text) => text.replace(/[&<>]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[sign]);

/** Lines with colours as a terminal is told of them, as HTML. */
function html(text) {
  let [style, out] = ['', ''];
  for (const part of text.split(/(\x1b\[[0-9;]*m)/)) {
    const codes = /^\x1b\[([0-9;]*)m$/.exec(part);
    if (!codes) {
      out += style ? `<span style="${style}">${escape(part)}</span>` : escape(part);
      continue;
    }
    for (const code of codes[1].split(';').map(Number)) {
      if (code === 0) style = '';
      if (code === 1) style += 'font-weight:700;';
      if (code === 2) style += 'opacity:.65;';
      if (code === 39) style += 'color:inherit;';
      if (code === 22) style += 'font-weight:400;opacity:1;';
      const color = code >= 30 && code <= 37 ? COLORS[code - 30] : code >= 90 && code <= 97 ? COLORS[code - 90] : null;
      if (color) style += `color:${color};`;
    }
  }
  return out;
}

const browser = await launchBrowser();
const page = await browser.newPage({ deviceScaleFactor: 2 });
await page.setContent(`<body style="margin:0;background:#0d1117"><pre style="display:inline-block;margin:0;padding:16px 20px;
  color:#e6edf3;font:13px/1.45 'DejaVu Sans Mono','Liberation Mono',monospace">${html(screen.trimEnd())}</pre>`);
await page.locator('pre').screenshot({ path: file });
await browser.close();
