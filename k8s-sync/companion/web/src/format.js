// Figures as people read them. Pure.

/** Requests a second, three digits. */
export function rate(perSecond) {
  if (!Number.isFinite(perSecond) || perSecond <= 0) return '0/s';
  if (perSecond < 0.05) return '<0.1/s';
  if (perSecond < 10) return `${perSecond.toFixed(1)}/s`;
  if (perSecond < 1000) return `${Math.round(perSecond)}/s`;
  if (perSecond < 1e6) return `${short(perSecond / 1e3)}k/s`;
  return `${short(perSecond / 1e6)}M/s`;
}

function short(value) {
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}

/** A share of 1. Rounds down, so that 100 % means that nothing failed. */
export function percent(share) {
  if (share === null || share === undefined || !Number.isFinite(share)) return '–';
  if (share >= 1) return '100%';
  const hundredths = Math.floor(share * 1e4) / 100;
  return hundredths >= 99 || hundredths < 1 ? `${hundredths.toFixed(2)}%` : `${hundredths.toFixed(1)}%`;
}

/** Seconds, in the unit that fits. */
export function time(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return '–';
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1e-2) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1e3)} ms`;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  return `${Math.round(seconds)} s`;
}

/** A whole number, with its thousands apart. */
export function count(number) {
  if (!Number.isFinite(number)) return '–';
  return String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, '\u202f');
}

/** Bytes a second. */
export function bytes(perSecond) {
  if (!Number.isFinite(perSecond) || perSecond <= 0) return '0 B/s';
  const units = ['B/s', 'kB/s', 'MB/s', 'GB/s', 'TB/s'];
  let value = perSecond;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

const KINDS = {
  Deployment: 'deploy',
  StatefulSet: 'sts',
  DaemonSet: 'ds',
  ReplicaSet: 'rs',
  CronJob: 'cron',
  Container: 'ctr',
  Service: 'svc',
  Process: 'proc',
  External: 'ext',
  Address: 'addr',
  CloneSet: 'clone',
};

/** A kind in a few letters. */
export function kind(name) {
  return KINDS[name] ?? String(name).toLowerCase();
}

/** What stands for the workloads that are in no namespace. */
export const NO_NAMESPACE = 'outside namespaces';

export function namespace(name) {
  return name === '' ? NO_NAMESPACE : name;
}

/** A workload's name; words of the agent's for what has none. */
export function workload({ name, kind: of }) {
  if (name === '_unknown') return of === 'Pending' ? 'not known yet' : 'unknown';
  if (name === '_overflow') return 'over the cap on series';
  return name;
}

/** How well a share of success is: one word for colours and for readers of screens. */
export function health(share) {
  if (share === null || share === undefined) return 'none';
  if (share >= 0.995) return 'good';
  if (share >= 0.95) return 'fair';
  return 'poor';
}
