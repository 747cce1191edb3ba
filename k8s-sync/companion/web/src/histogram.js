// Buckets of a latency histogram as bars. The companion sends base-2 exponential buckets, 32 to an
// octave, as [index, count]; bucket i ends at 2^(i/32) seconds. Index null: shorter than 1 µs. Pure.

const PER_OCTAVE = 32;

/** Joins buckets to `perOctave` bars an octave, without gaps, at most `most` bars. */
export function bars(buckets, perOctave, most) {
  const known = buckets.filter(([index]) => index !== null);
  const short = buckets.filter(([index]) => index === null).reduce((all, [, count]) => all + count, 0);
  if (known.length === 0) return short > 0 ? [{ from: 0, to: 2 ** -20, count: short }] : [];
  let per = perOctave;
  for (;;) {
    const width = PER_OCTAVE / per;
    const joined = new Map();
    for (const [index, count] of known) {
      const bar = Math.ceil(index / width);
      joined.set(bar, (joined.get(bar) ?? 0) + count);
    }
    const [first, last] = [Math.min(...joined.keys()), Math.max(...joined.keys())];
    if (last - first + 1 > most && per > 1 / 16) {
      per /= 2;
      continue;
    }
    const all = [];
    for (let bar = first; bar <= last; bar += 1) {
      const bounds = { from: 2 ** ((bar - 1) / per), to: 2 ** (bar / per) };
      all.push({ ...bounds, count: (joined.get(bar) ?? 0) + (bar === first ? short : 0) });
    }
    return all;
  }
}

/** Where a value stands among the bars, 0 to 1; null where it is outside. */
export function place(list, seconds) {
  if (list.length === 0 || seconds === null) return null;
  const at = list.findIndex(({ to }) => seconds <= to);
  if (at < 0) return null;
  const { from, to } = list[at];
  const within = from <= 0 ? 0.5 : Math.min(1, Math.max(0, Math.log(seconds / from) / Math.log(to / from)));
  return (at + within) / list.length;
}
