"use strict";
// From columns of a log to points of a curve. Numbers in, numbers out: nothing here knows the page.

const AXES = {
  iteration: { key: "iteration", label: "iteration" },
  epoch: { key: "epoch", label: "epoch" },
  time: { key: "elapsed_time", label: "time" },
};
const AXIS_KEYS = Object.values(AXES).map((axis) => axis.key);

// NaN and infinite numbers are strings in JSON.
function numbers(column) {
  return column.map((value) => (typeof value === "string" ? Number(value) : value));
}

// Where on the axis the entries of a run are. Entries without the key are null; a log without it is counted through.
function positions(run, axis) {
  if (!placed.has(run)) placed.set(run, {});
  return (placed.get(run)[axis] ||= computedPositions(run, axis));
}
const placed = new WeakMap();

function computedPositions(run, axis) {
  const column = Object.hasOwn(run.columns, AXES[axis].key) ? numbers(run.columns[AXES[axis].key]) : null;
  if (column === null) {
    const any = Object.values(run.columns)[0] || [];
    return axis === "iteration" ? any.map((_, i) => Math.min(i * run.stride + 1, run.total)) : any.map(() => null);
  }
  if (axis === "epoch" && Object.hasOwn(run.columns, "iteration")) {
    return spreadEpochs(column, numbers(run.columns.iteration));
  }
  return column.map((x) => (Number.isFinite(x) ? x : null));
}

// A log says how many epochs are complete, and several entries of one epoch would stand above each other. As an epoch
// has the same number of iterations each time, entry by entry narrows down how many.
function spreadEpochs(epochs, iterations) {
  let low = 0;
  let high = Infinity;
  let repeats = false;
  for (let i = 0; i < epochs.length; i++) {
    if (!Number.isFinite(epochs[i]) || !Number.isFinite(iterations[i])) continue;
    repeats = repeats || (i > 0 && epochs[i] === epochs[i - 1]);
    low = Math.max(low, iterations[i] / (Math.floor(epochs[i]) + 1));
    if (epochs[i] >= 1) high = Math.min(high, iterations[i] / Math.floor(epochs[i]));
  }
  const whole = epochs.map((epoch) => (Number.isFinite(epoch) ? epoch : null));
  if (!repeats || !Number.isFinite(high) || low > high || low <= 0) return whole;
  const size = (low + high) / 2;
  return whole.map((epoch, i) =>
    epoch === null || !Number.isFinite(iterations[i]) || epoch % 1 ? epoch
      : Math.min(Math.max(iterations[i] / size, epoch), epoch + 1));
}

// Exponential mean that starts without bias; gaps stay gaps.
function smoothed(values, weight) {
  if (!(weight > 0)) return values;
  let sum = 0;
  let total = 0;
  return values.map((value) => {
    if (!Number.isFinite(value)) return value;
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return sum / total;
  });
}

// Which keys share a chart: "validation/main/loss" joins "main/loss" if there is such a key. Title -> keys.
function grouped(runs) {
  const keys = new Set();
  for (const run of runs) {
    for (const key of Object.keys(run.columns)) if (!AXIS_KEYS.includes(key)) keys.add(key);
  }
  const groups = new Map();
  const base = (key) => {
    const rest = key.slice(key.indexOf("/") + 1);
    return rest !== key && keys.has(rest) ? rest : key;
  };
  for (const key of keys) if (base(key) === key) groups.set(key, [key]);
  for (const key of keys) {
    if (base(key) === key) continue;
    const group = groups.get(base(key));
    if (group) group.push(key);
    else groups.set(key, [key]);
  }
  return groups;
}

function ticks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = size * ([1, 2, 5].find((factor) => factor * size >= raw) || 10);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9 && found.length < 100; i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

function logTicks(low, high, count) {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const each = Math.ceil((last - first) / Math.max(1, count));
  const factors = last - first <= 2 ? [1, 2, 5] : [1];
  const found = [];
  for (let power = first; power <= last; power += each) {
    for (const factor of factors) {
      const tick = Number(`${factor}e${power}`);
      if (tick >= low && tick <= high) found.push(tick);
    }
  }
  return found.length >= 2 ? found : ticks(low, high, count);
}

function shown(value) {
  if (value === null || value === undefined) return "";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e9) return value.toLocaleString("en");
  return size >= 1e6 || size < 1e-4 ? value.toExponential(3) : String(Number(value.toPrecision(5)));
}

function timeUnit(seconds) {
  if (seconds < 180) return { name: "s", size: 1 };
  return seconds < 3 * 3600 ? { name: "min", size: 60 } : { name: "h", size: 3600 };
}

// The index of the value that is nearest, among sorted or unsorted ones; -1 if there is none.
function nearest(values, x) {
  let best = -1;
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== null && (best < 0 || Math.abs(values[i] - x) < Math.abs(values[best] - x))) best = i;
  }
  return best;
}

function csv(rows) {
  const field = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(field).join(",") + "\r\n").join("");
}

// One row an entry: the run, where it is, and its values.
function csvRows(runs, keys) {
  const rows = [["run", ...AXIS_KEYS, ...keys]];
  for (const run of runs) {
    const columns = [...AXIS_KEYS, ...keys].map((key) => (Object.hasOwn(run.columns, key) ? run.columns[key] : []));
    const length = Math.max(...columns.map((column) => column.length));
    for (let i = 0; i < length; i++) rows.push([run.name, ...columns.map((column) => column[i])]);
  }
  return rows;
}
