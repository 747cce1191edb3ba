// Draws the scene on a canvas. Curves of one look are one path, made when figures or the selection
// change and not for each frame.

import { health, kind, namespace, percent, rate, time, workload } from './format.js';

const FONT = '"Inter", system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif';
/** Below this nobody reads the small line, and below the second no name. */
const SMALL = 0.5;
const TINY = 0.28;
/**
 * More links than this are thin and faint while none is chosen. Their picture is made piece by piece, a
 * piece a frame; until it is done, and while a person drags, the one before is moved.
 */
export const CROWD = 400;
/** Links of a piece. */
const PIECE = 500;

/** Colours of the page, as CSS says them. */
export function colours(element) {
  const style = getComputedStyle(element);
  const names = ['bg', 'card', 'frame', 'line', 'text', 'muted', 'edge', 'good', 'fair', 'poor', 'idle', 'accent'];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** How wide a link is: by the order of magnitude of its rate. */
export function widthOf(perSecond) {
  return perSecond <= 0 ? 1 : Math.min(4, 1.25 + Math.max(0, Math.log10(perSecond)) * 0.75);
}

/** Links of one look as one path. */
export function paths(view, scene, lit) {
  const all = new Map();
  const counts = new Map();
  const many = view.links.length > CROWD;
  for (const link of view.links) {
    const curve = scene.curves.get(link.key);
    if (!curve) continue;
    const state = link.rate > 0 ? health(link.ok) : 'idle';
    const colour = state === 'good' ? 'edge' : state === 'none' ? 'idle' : state;
    const dim = lit !== null && !lit.has(link.key);
    const width = many && (lit === null || dim) ? 1 : Math.round(widthOf(link.rate) * 2) / 2;
    const kind = `${dim ? 0 : 1}|${colour}|${width}`;
    const before = counts.get(kind) ?? 0;
    counts.set(kind, before + 1);
    const look = `${kind}|${Math.floor(before / PIECE)}`;
    if (!all.has(look)) all.set(look, { dim, colour, width, lines: new Path2D(), heads: new Path2D() });
    const { lines, heads } = all.get(look);
    const { points, line, end } = curve;
    lines.moveTo(points[0], points[1]);
    if (many && width === 1) {
      lines.lineTo(line[line.length - 2], line[line.length - 1]);
      continue;
    }
    for (let n = 2; n < points.length; n += 6) lines.bezierCurveTo(...points.slice(n, n + 6));
    const size = 5 + width * 1.6;
    const at = (angle) => [end.x - size * Math.cos(end.angle + angle), end.y - size * Math.sin(end.angle + angle)];
    heads.moveTo(end.x, end.y);
    heads.lineTo(...at(0.42));
    heads.lineTo(...at(-0.42));
    heads.closePath();
  }
  // What failed is drawn over what did not, what is dim beneath all.
  const rank = { idle: 0, edge: 1, fair: 2, poor: 3 };
  return [...all.values()].sort((a, b) => b.dim - a.dim || rank[a.colour] - rank[b.colour]);
}

/** The last full picture, which was made for `was`, where it is now, with what is under the pointer. */
export function move(context, size, look, { still, was, view, scene, hovered }, theme) {
  const scale = look.scale / was.scale;
  const pixels = size.ratio;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = theme.bg;
  context.fillRect(0, 0, size.w * pixels, size.h * pixels);
  const [x, y] = [(was.x - look.x) * look.scale * pixels, (was.y - look.y) * look.scale * pixels];
  context.drawImage(still, x, y, still.width * scale, still.height * scale);
  context.setTransform(pixels * look.scale, 0, 0, pixels * look.scale, -look.x * look.scale * pixels, -look.y * look.scale * pixels);
  drawOver(context, { scene, selected: null, hovered }, look.scale, theme);
  const box = view.cards.has(hovered) ? scene.boxes.get(hovered) : null;
  if (!box) return;
  context.beginPath();
  context.roundRect(box.x, box.y, box.w, box.h, 10);
  context.strokeStyle = theme.accent;
  context.lineWidth = Math.max(1.5, 1.5 / look.scale);
  context.stroke();
}

const cuts = new Map();

/** Text that fits, with an ellipsis where it does not. Remembered, since measuring costs. */
function cut(context, text, width) {
  const key = `${context.font}|${Math.round(width)}|${text}`;
  const known = cuts.get(key);
  if (known !== undefined) return known;
  let kept = text;
  if (context.measureText(text).width > width) {
    let [low, high] = [0, text.length];
    while (low < high) {
      const half = Math.ceil((low + high) / 2);
      if (context.measureText(`${text.slice(0, half)}…`).width <= width) low = half;
      else high = half - 1;
    }
    kept = `${text.slice(0, low)}…`;
  }
  if (cuts.size > 20000) cuts.clear();
  cuts.set(key, kept);
  return kept;
}

/** One picture. `seen` is what is to be drawn: view, scene, links as `paths`, lit, selected, hovered. */
export function paint(context, size, look, seen, theme) {
  for (const piece of painting(context, size, look, seen, theme)) void piece;
}

/** The same, with a stop after each path of links. */
export function* painting(context, size, look, seen, theme) {
  const { view, scene, links, lit, selected, hovered } = seen;
  const { scale, x, y } = look;
  const pixels = size.ratio;
  context.setTransform(pixels, 0, 0, pixels, 0, 0);
  context.fillStyle = theme.bg;
  context.fillRect(0, 0, size.w, size.h);
  context.setTransform(pixels * scale, 0, 0, pixels * scale, -x * scale * pixels, -y * scale * pixels);
  const area = { left: x, top: y, right: x + size.w / scale, bottom: y + size.h / scale };
  const isSeen = (box) =>
    box.x < area.right && box.x + box.w > area.left && box.y < area.bottom && box.y + box.h > area.top;
  for (const frame of view.frames) {
    const box = scene.frames.get(frame.key);
    if (box && isSeen(box)) drawFrame(context, frame, box, { scale, theme, selected, hovered });
  }
  context.lineCap = 'butt';
  const isCrowd = view.links.length > CROWD;
  for (const { dim, colour, width, lines, heads } of links) {
    context.globalAlpha = dim ? 0.13 : isCrowd && lit === null ? 0.3 : 0.92;
    context.strokeStyle = theme[colour];
    context.lineWidth = Math.max(width, 0.8 / scale);
    context.setLineDash(colour === 'idle' && !isCrowd ? [5, 5] : []);
    context.stroke(lines);
    if (scale > TINY) {
      context.fillStyle = theme[colour];
      context.fill(heads);
    }
    if (isCrowd) yield;
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
  drawOver(context, seen, scale, theme);
  for (const card of view.cards.values()) {
    const box = scene.boxes.get(card.key);
    if (!box || !isSeen(box)) continue;
    context.globalAlpha = (lit !== null && !lit.has(card.key)) || card.dim ? 0.36 : 1;
    drawCard(context, card, box, { scale, theme, isSelected: selected === card.key, isHovered: hovered === card.key });
  }
  context.globalAlpha = 1;
  if (scale > 0.55) drawLabels(context, seen, area, theme);
}

/** The link under the pointer and the one that is selected, over all others. */
function drawOver(context, { scene, selected, hovered }, scale, theme) {
  for (const key of new Set([hovered, selected])) {
    const curve = scene.curves.get(key);
    if (!curve) continue;
    const { points } = curve;
    context.beginPath();
    context.moveTo(points[0], points[1]);
    for (let n = 2; n < points.length; n += 6) context.bezierCurveTo(...points.slice(n, n + 6));
    context.strokeStyle = theme.accent;
    context.globalAlpha = key === selected ? 1 : 0.7;
    context.lineWidth = Math.max(3, 2 / scale);
    context.stroke();
    context.globalAlpha = 1;
  }
}

function drawFrame(context, frame, box, { scale, theme, selected, hovered }) {
  context.beginPath();
  context.roundRect(box.x, box.y, box.w, box.h, 14);
  context.fillStyle = theme.frame;
  context.fill();
  const marked = selected === frame.key || hovered === frame.key;
  context.strokeStyle = marked ? theme.accent : theme.line;
  context.lineWidth = Math.max(marked ? 2 : 1, 1 / scale);
  context.stroke();
  // A name that is read from afar, too, as long as it fits.
  const size = Math.min(13 / Math.min(1, scale), scale < TINY ? 64 : 21);
  context.font = `600 ${size}px ${FONT}`;
  context.textBaseline = 'middle';
  context.textAlign = 'left';
  context.fillStyle = theme.text;
  const text = cut(context, namespace(frame.ns), box.w - (scale < SMALL ? 24 : 130));
  const middle = box.y + Math.max(20, size * 0.8);
  context.fillText(text, box.x + (scale < SMALL ? 12 : 18), middle);
  if (scale >= SMALL) {
    const wide = context.measureText(text).width;
    context.font = `400 11px ${FONT}`;
    context.fillStyle = theme.muted;
    const found = frame.found === null ? '' : ` · ${frame.found} found`;
    const members = `${frame.members} workload${frame.members === 1 ? '' : 's'}${found}`;
    context.fillText(cut(context, members, box.w - wide - 62), box.x + 18 + wide + 10, middle + 0.5);
    context.textAlign = 'right';
    context.fillText('−', box.x + box.w - 16, middle);
  }
}

function drawCard(context, card, box, { scale, theme, isSelected, isHovered }) {
  const { x, y, w, h } = box;
  const isNamespace = card.type === 'namespace';
  const state = card.rate > 0 ? health(card.ok) : 'none';
  const strip = state === 'none' ? theme.idle : theme[state];
  if (isNamespace && scale > TINY) {
    // A second sheet beneath: there is more in it.
    context.beginPath();
    context.roundRect(x + 4, y + 4, w, h, 11);
    context.fillStyle = theme.frame;
    context.fill();
    context.strokeStyle = theme.line;
    context.lineWidth = 1;
    context.stroke();
  }
  context.beginPath();
  context.roundRect(x, y, w, h, 10);
  context.fillStyle = theme.card;
  context.fill();
  context.strokeStyle = isSelected || isHovered ? theme.accent : theme.line;
  context.lineWidth = isSelected ? 2.5 : Math.max(1, 0.8 / scale);
  context.stroke();
  context.beginPath();
  context.roundRect(x + 5, y + 8, 4, h - 16, 2);
  context.fillStyle = strip;
  context.fill();
  if (scale < TINY) return;
  const left = x + 18;
  const tag = isNamespace ? `${card.members}` : kind(card.workload.kind);
  const name = isNamespace ? namespace(card.ns) : workload(card.workload);
  const isLacking = card.live < card.all;
  const size = isNamespace ? 15 : 13;
  const big = Math.min(size / Math.min(1, scale / 0.62), size * 1.45);
  context.textBaseline = 'middle';
  context.textAlign = 'left';
  const isSmall = scale < SMALL;
  context.font = `400 10.5px ${FONT}`;
  const tagWidth = isSmall ? 0 : context.measureText(tag).width + 10;
  if (!isSmall) {
    context.beginPath();
    context.roundRect(x + w - tagWidth - 9, y + 9, tagWidth, 17, 8.5);
    context.fillStyle = theme.frame;
    context.fill();
    context.fillStyle = theme.muted;
    context.fillText(tag, x + w - tagWidth - 4, y + 18);
  }
  context.font = `600 ${big}px ${FONT}`;
  context.fillStyle = theme.text;
  const first = isSmall ? y + h / 2 : y + (isNamespace ? 20 : 18);
  context.fillText(cut(context, name, w - 30 - tagWidth), left, first);
  if (isSmall) return;
  const found = card.found > 0 ? `${card.found} found · ` : '';
  const figures = card.rate > 0 ? `${rate(card.rate)}   ${percent(card.ok)}   ${time(card.p95)}` : 'no requests';
  context.font = `400 11.5px ${FONT}`;
  context.fillStyle = theme.muted;
  const second = y + h - (isNamespace ? 31 : 16);
  const lacking = isLacking ? `${card.live}/${card.all}` : '';
  const room = w - 34 - (lacking ? 40 : 0);
  context.fillText(cut(context, found + figures, room), left, second);
  if (isNamespace) {
    context.font = `400 10.5px ${FONT}`;
    const inside = card.self > 0 ? `, ${rate(card.self)} within` : '';
    context.fillText(cut(context, `${card.members} workload${card.members === 1 ? '' : 's'}${inside}`, w - 34), left, y + h - 14);
  }
  if (lacking) {
    context.font = `600 10.5px ${FONT}`;
    context.textAlign = 'right';
    context.fillStyle = theme.fair;
    context.fillText(lacking, x + w - 10, second);
    context.textAlign = 'left';
  }
}

/** Figures on links: of those that are lit, or of all where they are few. */
function drawLabels(context, { view, scene, lit, selected, hovered }, area, theme) {
  if (scene.boxes.size > 300 && lit === null) return;
  const isShown = (link) => (lit === null ? view.links.length <= 60 : lit.has(link.key));
  context.font = `500 10.5px ${FONT}`;
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  let most = 150;
  const taken = [...scene.boxes.values()].map(({ x, y, w, h }) => ({ left: x, right: x + w, top: y, bottom: y + h }));
  const sorted = view.links.filter((link) => isShown(link) || link.key === hovered || link.key === selected);
  sorted.sort((a, b) => b.rate - a.rate);
  for (const link of sorted) {
    const curve = scene.curves.get(link.key);
    if (!curve || most <= 0) continue;
    const lacking = link.live < link.all ? ` · ${link.live}/${link.all}` : '';
    const failed = link.ok !== null && link.ok < 0.995 ? ` · ${percent(link.ok)}` : '';
    const text = link.rate > 0 ? `${rate(link.rate)} · ${time(link.p95)}${failed}${lacking}` : `idle${lacking}`;
    const wide = context.measureText(text).width + 12;
    const spot = freeSpot(curve, wide, taken, area);
    if (spot === null) continue;
    const [x, y] = [spot.left + wide / 2, spot.top + 9];
    taken.push(spot);
    most -= 1;
    context.beginPath();
    context.roundRect(spot.left, spot.top, wide, 18, 9);
    context.globalAlpha = 0.94;
    context.fillStyle = theme.bg;
    context.fill();
    context.globalAlpha = 1;
    const state = link.rate > 0 ? health(link.ok) : 'none';
    context.fillStyle = state === 'poor' ? theme.poor : state === 'fair' ? theme.fair : theme.muted;
    context.fillText(text, x, y + 0.5);
  }
}

/** Where on a curve there is room for a label: in its middle, else to both sides of it. */
function freeSpot({ line }, wide, taken, area) {
  const last = line.length / 2 - 1;
  for (const share of [0.5, 0.4, 0.6, 0.3, 0.7]) {
    const at = Math.round(last * share) * 2;
    const [x, y] = [line[at], line[at + 1]];
    const spot = { left: x - wide / 2, right: x + wide / 2, top: y - 9, bottom: y + 9 };
    if (spot.right < area.left || spot.left > area.right || spot.bottom < area.top || spot.top > area.bottom) continue;
    const hits = (other) =>
      spot.left < other.right && spot.right > other.left && spot.top < other.bottom && spot.bottom > other.top;
    if (!taken.some(hits)) return spot;
  }
  return null;
}
