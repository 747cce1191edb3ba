// Puts boxes into layers from left to right, so that who asks stands left of who is asked. Pure, and
// the same for the same input.
//
// Sugiyama's steps: no circles (what points back in the order of Eades, Lin and Smyth counts the other
// way), layers by longest path, few crossings by barycentres, places by least squares in that order.

const SWEEPS = 8;
const ROUNDS = 8;
/** Above this an edge over several layers bends around nothing. */
const BENDS = 1500;
/** What has more layers is a knot: columns of one height are filled with it in the same order. */
const LAYERS = 12;

/**
 * `nodes`: [{ key, w, h }], `edges`: [[from, to, weight]]: light ones rather point back. Returns the place of each node's upper left corner,
 * the bends of edges that pass layers, by `from>to`, and the size of it all.
 */
export function layered(nodes, edges, { gapX = 96, gapY = 22, rows = 14, aspect = 1.6 } = {}) {
  const index = new Map(nodes.map(({ key }, i) => [key, i]));
  const pairs = unique(edges, index);
  const touched = new Uint8Array(nodes.length);
  for (const [a, b] of pairs) touched[a] = touched[b] = 1;
  const joined = nodes.map((_, i) => i).filter((i) => touched[i]);
  const alone = nodes.map((_, i) => i).filter((i) => !touched[i]);
  const at = new Map();
  const bends = new Map();
  let [width, height] = [0, 0];
  if (joined.length > 0) {
    const directed = withoutCircles(nodes.length, joined, pairs);
    const ranks = longestPaths(nodes.length, joined, directed);
    const graph = withBends(nodes, joined, directed, ranks, rows);
    const isKnot = graph.layers.length > LAYERS;
    order(graph);
    const columns = isKnot ? filled(graph, { gapX, gapY, aspect }) : split(graph, rows);
    const size = placed(graph, columns, { gapX, gapY });
    [width, height] = [size.width, size.height];
    joined.forEach((i) => at.set(nodes[i].key, { x: graph.x[i], y: graph.y[i] }));
    for (const { from, to, reversed, chain } of graph.chains) {
      const points = chain.map((i) => ({ x: graph.x[i] + graph.w[i] / 2, y: graph.y[i] }));
      bends.set(`${nodes[from].key}>${nodes[to].key}`, reversed ? points.reverse() : points);
    }
  }
  if (alone.length > 0) {
    const grid = inGrid(nodes, alone, width > 0 ? Math.max(width, 400) : null, { gapX: gapY, gapY });
    const top = height > 0 ? height + gapY * 2 : 0;
    grid.at.forEach((point, i) => at.set(nodes[i].key, { x: point.x, y: point.y + top }));
    width = Math.max(width, grid.width);
    height = top + grid.height;
  }
  return { at, bends, width, height };
}

/** Pairs of indexes with their weight, each once and none with itself. */
function unique(edges, index) {
  const pairs = new Map();
  for (const [from, to, weight = 1] of edges) {
    const [a, b] = [index.get(from), index.get(to)];
    if (a === undefined || b === undefined || a === b) continue;
    const key = a * 1e6 + b;
    if (!pairs.has(key)) pairs.set(key, [a, b, 0]);
    pairs.get(key)[2] += weight;
  }
  return [...pairs.values()];
}

function neighbours(size, pairs) {
  const [out, into] = [Array.from({ length: size }, () => []), Array.from({ length: size }, () => [])];
  for (const [a, b] of pairs) {
    out[a].push(b);
    into[b].push(a);
  }
  return { out, into };
}

function withoutCircles(size, joined, pairs) {
  const { out, into } = neighbours(size, pairs);
  const surplus = new Float64Array(size);
  const [asks, asked] = [out.map((list) => list.length), into.map((list) => list.length)];
  const weights = new Map();
  for (const [a, b, weight] of pairs) {
    surplus[a] += weight;
    surplus[b] -= weight;
    weights.set(a * 1e6 + b, weight);
  }
  const left = new Set(joined);
  const [first, last] = [[], []];
  const remove = (i) => {
    left.delete(i);
    for (const next of out[i]) {
      asked[next] -= 1;
      surplus[next] += weights.get(i * 1e6 + next);
    }
    for (const before of into[i]) {
      asks[before] -= 1;
      surplus[before] -= weights.get(before * 1e6 + i);
    }
  };
  const takeAll = (counts, to) => {
    for (let again = true; again; ) {
      again = false;
      for (const i of left) {
        if (counts[i] !== 0) continue;
        to.push(i);
        remove(i);
        again = true;
      }
    }
  };
  while (left.size > 0) {
    takeAll(asks, last);
    takeAll(asked, first);
    if (left.size === 0) break;
    let most = null;
    for (const i of left) if (most === null || surplus[i] > surplus[most]) most = i;
    first.push(most);
    remove(most);
  }
  const place = new Map([...first, ...last.reverse()].map((i, n) => [i, n]));
  return pairs.map(([a, b]) => {
    const reversed = place.get(a) > place.get(b);
    return reversed ? { a: b, b: a, reversed } : { a, b, reversed };
  });
}

function longestPaths(size, joined, directed) {
  const { out, into } = neighbours(size, directed.map(({ a, b }) => [a, b]));
  const left = into.map((list) => list.length);
  const ranks = new Int32Array(size);
  const ready = joined.filter((i) => left[i] === 0);
  const sorted = [];
  while (ready.length > 0) {
    const i = ready.pop();
    sorted.push(i);
    for (const next of out[i]) {
      ranks[next] = Math.max(ranks[next], ranks[i] + 1);
      left[next] -= 1;
      if (left[next] === 0) ready.push(next);
    }
  }
  // Who is asked by nobody stands just before the first whom it asks.
  for (const i of sorted) {
    if (into[i].length === 0 && out[i].length > 0) ranks[i] = Math.min(...out[i].map((next) => ranks[next])) - 1;
  }
  return ranks;
}

/** Layers with a place for each edge that passes one. */
function withBends(nodes, joined, directed, ranks, rows) {
  const count = Math.max(...joined.map((i) => ranks[i])) + 1;
  const layers = Array.from({ length: count }, () => []);
  joined.forEach((i) => layers[ranks[i]].push(i));
  const [w, h] = [nodes.map((node) => node.w), nodes.map((node) => node.h)];
  const passes = directed.reduce((all, { a, b }) => all + ranks[b] - ranks[a] - 1, 0);
  const bent = passes <= BENDS && count <= LAYERS && layers.every((layer) => layer.length <= rows);
  const links = [];
  const chains = [];
  for (const { a, b, reversed } of directed) {
    const chain = [];
    let before = a;
    for (let rank = ranks[a] + 1; bent && rank < ranks[b]; rank += 1) {
      const bend = w.length;
      w.push(0);
      h.push(4);
      layers[rank].push(bend);
      chain.push(bend);
      links.push([before, bend]);
      before = bend;
    }
    links.push([before, b]);
    const [from, to] = reversed ? [b, a] : [a, b];
    if (chain.length > 0) chains.push({ from, to, reversed, chain });
  }
  return { layers, links, chains, w, h, x: [], y: [], real: nodes.length };
}

/** Sorts each layer by the medians of its neighbours, and keeps the order with the fewest crossings. */
function order(graph) {
  const { layers, links, w } = graph;
  const { out, into } = neighbours(w.length, links);
  const place = new Float64Array(w.length);
  const settle = (layer) => layer.forEach((i, n) => (place[i] = n));
  layers.forEach(settle);
  const counts = links.length <= 2000;
  let best = counts ? crossings(layers, out, place) : 0;
  let kept = layers.map((layer) => [...layer]);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const down = sweep % 2 === 0;
    const order = down ? layers : [...layers].reverse();
    for (const layer of order.slice(1)) {
      const weight = new Map(layer.map((i) => [i, middle((down ? into : out)[i], place) ?? place[i]]));
      layer.sort((a, b) => weight.get(a) - weight.get(b) || place[a] - place[b]);
      settle(layer);
    }
    const now = counts ? crossings(layers, out, place) : 0;
    if (!counts || now < best) {
      best = now;
      kept = layers.map((layer) => [...layer]);
    }
  }
  kept.forEach((layer, n) => (layers[n] = layer));
  layers.forEach(settle);
}

function middle(list, place) {
  if (list.length === 0) return null;
  return list.reduce((all, i) => all + place[i], 0) / list.length;
}

function crossings(layers, out, place) {
  let all = 0;
  for (const layer of layers) {
    const ends = layer.flatMap((i) => out[i].map((next) => place[next]).sort((a, b) => a - b));
    // Pairs that are out of order, by insertion into a sorted list.
    const sorted = [];
    for (const end of ends) {
      let [low, high] = [0, sorted.length];
      while (low < high) {
        const half = (low + high) >> 1;
        if (sorted[half] <= end) low = half + 1;
        else high = half;
      }
      all += sorted.length - low;
      sorted.splice(low, 0, end);
    }
  }
  return all;
}

/** Columns of at most `rows`: a layer with more is several columns. */
function split({ layers, real }, rows) {
  return layers.flatMap((layer) => {
    const boxes = layer.filter((i) => i < real).length;
    if (boxes <= rows) return [layer];
    const columns = Math.ceil(boxes / Math.max(rows, Math.ceil(Math.sqrt(boxes * 1.5))));
    const size = Math.ceil(layer.length / columns);
    return Array.from({ length: columns }, (_, n) => layer.slice(n * size, (n + 1) * size));
  });
}

/** Columns of one height, so many that it all is `aspect` times as wide as high. */
function filled({ layers, w, h }, { gapX, gapY, aspect }) {
  const all = layers.flat();
  const wide = Math.max(...all.map((i) => w[i])) + gapX;
  const tall = all.reduce((sum, i) => sum + h[i] + gapY, 0);
  const height = Math.max(Math.sqrt((tall * wide) / aspect), ...all.map((i) => h[i]));
  const columns = [[]];
  let used = 0;
  for (const i of all) {
    if (used + h[i] > height && used > 0) {
      columns.push([]);
      used = 0;
    }
    columns[columns.length - 1].push(i);
    used += h[i] + gapY;
  }
  return columns;
}

function placed(graph, columns, { gapX, gapY }) {
  const { w, h, links, real } = graph;
  const { out, into } = neighbours(w.length, links);
  const middles = new Float64Array(w.length);
  const gap = (a, b) => (h[a] + h[b]) / 2 + (a < real && b < real ? gapY : gapY * 0.7);
  for (const column of columns) {
    let y = 0;
    column.forEach((i, n) => {
      y += n === 0 ? 0 : gap(column[n - 1], i);
      middles[i] = y;
    });
    column.forEach((i) => (middles[i] -= y / 2));
  }
  for (let round = 0; round < ROUNDS; round += 1) {
    const order = round % 2 === 0 ? columns : [...columns].reverse();
    for (const column of order) {
      const wished = column.map((i) => {
        const near = round === ROUNDS - 1 ? [...into[i], ...out[i]] : (round % 2 === 0 ? into : out)[i];
        return middle(near, middles) ?? middles[i];
      });
      apart(column, wished, gap).forEach((y, n) => (middles[column[n]] = y));
    }
  }
  let x = 0;
  let [top, bottom] = [Infinity, -Infinity];
  for (const column of columns) {
    const wide = Math.max(...column.map((i) => w[i]));
    for (const i of column) {
      graph.x[i] = x + (wide - w[i]) / 2;
      graph.y[i] = i < real ? middles[i] - h[i] / 2 : middles[i];
      top = Math.min(top, middles[i] - h[i] / 2);
      bottom = Math.max(bottom, middles[i] + h[i] / 2);
    }
    x += wide + gapX;
  }
  for (const column of columns) for (const i of column) graph.y[i] -= top;
  return { width: x - gapX, height: bottom - top };
}

/** The places nearest to those that are wished, in this order and so far apart (least squares, by pooling). */
function apart(column, wished, gap) {
  const pools = [];
  let offset = 0;
  const offsets = column.map((i, n) => (offset += n === 0 ? 0 : gap(column[n - 1], i)));
  wished.forEach((y, n) => {
    let pool = { sum: y - offsets[n], size: 1 };
    while (pools.length > 0 && pools[pools.length - 1].sum / pools[pools.length - 1].size >= pool.sum / pool.size) {
      const before = pools.pop();
      pool = { sum: before.sum + pool.sum, size: before.size + pool.size };
    }
    pools.push(pool);
  });
  return pools.flatMap(({ sum, size }) => Array(size).fill(sum / size)).map((y, n) => y + offsets[n]);
}

/** Those that nobody asks and that ask nobody. */
function inGrid(nodes, alone, width, { gapX, gapY }) {
  const wide = Math.max(...alone.map((i) => nodes[i].w));
  const most = width === null ? Math.ceil(Math.sqrt(alone.length * 0.6)) : Math.floor((width + gapX) / (wide + gapX));
  const columns = Math.max(1, Math.min(alone.length, most));
  const at = new Map();
  let [y, tall] = [0, 0];
  alone.forEach((i, n) => {
    if (n > 0 && n % columns === 0) {
      y += tall + gapY;
      tall = 0;
    }
    at.set(i, { x: (n % columns) * (wide + gapX), y });
    tall = Math.max(tall, nodes[i].h);
  });
  return { at, width: columns * (wide + gapX) - gapX, height: y + tall };
}
