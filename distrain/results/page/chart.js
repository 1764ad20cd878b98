// One chart: its drawing, its cursor, and the values below it.

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const COLORS = 8;
const PNG = { width: 960, height: 480, scale: 2 };

// An element; text is always put in as text.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

// A name that may be broken after its slashes.
function wrappable(name) {
  return name.split(/(?<=\/)/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));
}

function download(name, blob) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function fileName(text, ending) {
  return text.replace(/[^\w.-]+/g, "_").slice(0, 80) + ending;
}

function themeNow() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(name).trim();
  return {
    back: get("--back"), text: get("--text"), muted: get("--muted"), line: get("--line"),
    colors: Array.from({ length: COLORS }, (_, i) => get(`--c${i}`)),
    font: "12px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif",
  };
}

class Chart {
  // `state` is shared by all charts: axis, smoothing, log, hidden runs, cursor. `moved(x)` tells of a new cursor.
  constructor(title, state, moved) {
    this.title = title;
    this.state = state;
    this.moved = moved;
    this.series = [];
    this.isVisible = false;
    this.canvas = make("canvas", { tabindex: 0, role: "slider", "aria-valuemin": 0 });
    this.readout = make("table", { class: "readout" });
    const csvButton = make("button", { type: "button", "aria-label": `${title} as CSV` }, "CSV");
    const pngButton = make("button", { type: "button", "aria-label": `${title} as PNG` }, "PNG");
    const caption = make("figcaption", {}, make("h3", {}, ...wrappable(title)), make("div", {}, csvButton, pngButton));
    this.element = make("figure", {}, caption, this.canvas, this.readout);
    csvButton.addEventListener("click", () => this.saveCsv());
    pngButton.addEventListener("click", () => this.savePng());
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerdown", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.moved(null));
    this.canvas.addEventListener("blur", () => this.moved(null));
    this.canvas.addEventListener("keydown", (event) => this.step(event));
  }

  // Takes the runs anew, and their keys that belong into this chart.
  update(runs, keys) {
    this.runs = runs;
    this.keys = keys;
    this.compute();
  }

  // The state has changed, and not only the cursor. Charts that nobody sees wait until somebody does.
  refresh() {
    this.isStale = true;
    if (this.isVisible) this.compute();
  }

  appear(isVisible) {
    this.isVisible = isVisible;
    if (!isVisible) return;
    if (this.isStale) this.compute();
    else this.paint();
  }

  compute() {
    this.isStale = false;
    this.series = [];
    this.runs.forEach((run, number) => {
      if (this.state.hidden.has(run.name)) return;
      const xs = positions(run, this.state.axis);
      this.keys.forEach((key, place) => {
        if (!Object.hasOwn(run.columns, key)) return;
        const raw = numbers(run.columns[key]);
        this.series.push({
          run, key, xs, raw, marks: xs.map((x, i) => (raw[i] === null ? null : x)), ys: smoothed(raw, this.state.smoothing),
          color: number % COLORS, dash: place % DASHES.length,
          name: this.keys.length > 1 ? `${run.name}: ${key}` : run.name,
        });
      });
    });
    this.stops = [...new Set(this.series.flatMap((one) => one.xs.filter((x) => x !== null)))].sort((a, b) => a - b);
    const last = this.stops.length ? this.stops[this.stops.length - 1] : 0;
    this.unit = this.state.axis === "time" ? timeUnit(last) : null;
    this.canvas.setAttribute("aria-label", `${this.title} over ${AXES[this.state.axis].label}: position of the cursor`);
    this.canvas.setAttribute("aria-valuemax", Math.max(0, this.stops.length - 1));
    this.paint();
  }

  // Draws the chart as it is now, if anybody sees it. If only the cursor has moved, the curves are taken from a copy.
  paint(onlyCursor = false) {
    this.read();
    if (!this.isVisible) return;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    const scale = window.devicePixelRatio || 1;
    const theme = themeNow();
    if (!onlyCursor || !this.layer) {
      this.layer = make("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
      const context = this.layer.getContext("2d");
      context.scale(scale, scale);
      this.plot = this.draw(context, width, height, theme);
      this.canvas.width = this.layer.width;
      this.canvas.height = this.layer.height;
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (this.layer.width && this.layer.height) context.drawImage(this.layer, 0, 0);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    if (this.plot && this.state.cursor !== null) this.drawCursor(context, theme, this.plot, this.state.cursor);
  }

  range() {
    const isUsable = (y) => Number.isFinite(y) && (!this.state.log || y > 0);
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const { xs, raw } of this.series) {
      for (let i = 0; i < xs.length; i++) {
        if (xs[i] === null || raw[i] === null) continue;
        left = Math.min(left, xs[i]);
        right = Math.max(right, xs[i]);
        if (!isUsable(raw[i])) continue;
        low = Math.min(low, raw[i]);
        high = Math.max(high, raw[i]);
      }
    }
    if (left > right) return null;
    if (low > high) [low, high] = [this.state.log ? 0.1 : 0, 1];
    if (left === right) [left, right] = [left - 1, right + 1];
    if (this.state.log) {
      const pad = (high / low) ** 0.04;
      return low === high ? { left, right, low: low / 2, high: high * 2 } : { left, right, low: low / pad, high: high * pad };
    }
    const pad = low === high ? Math.abs(low) / 2 || 1 : (high - low) * 0.05;
    return { left, right, low: low - pad, high: high + pad };
  }

  // Draws all but the cursor into any context; returns where on it which numbers are.
  draw(context, width, height, theme) {
    context.fillStyle = theme.back;
    context.fillRect(0, 0, width, height);
    context.font = theme.font;
    const range = this.range();
    if (range === null) {
      context.fillStyle = theme.muted;
      context.textAlign = "center";
      context.fillText(this.series.length ? "no number on this axis" : "nothing to show", width / 2, height / 2);
      return null;
    }
    const map = this.state.log ? Math.log : (y) => y;
    const yTicks = this.state.log ? logTicks(range.low, range.high, height / 45) : ticks(range.low, range.high, height / 45);
    const edge = 14 + Math.max(...yTicks.map((tick) => context.measureText(shown(tick)).width), 10);
    const box = { left: edge, right: width - 12, top: 12, bottom: height - 36 };
    const toX = (x) => box.left + ((x - range.left) / (range.right - range.left)) * (box.right - box.left);
    const toY = (y) =>
      box.bottom - ((map(y) - map(range.low)) / (map(range.high) - map(range.low))) * (box.bottom - box.top);
    this.drawAxes(context, theme, box, range, yTicks, toX, toY);
    this.drawRestarts(context, theme, box, toX);
    for (const one of this.series) this.drawSeries(context, theme, box, one, toX, toY);
    return { box, range, toX, toY };
  }

  drawAxes(context, theme, box, range, yTicks, toX, toY) {
    context.strokeStyle = theme.line;
    context.fillStyle = theme.muted;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const tick of yTicks) {
      line(context, box.left, toY(tick), box.right, toY(tick));
      context.fillText(shown(tick), box.left - 6, toY(tick));
    }
    const size = this.unit ? this.unit.size : 1;
    context.textBaseline = "top";
    context.textAlign = "center";
    for (const tick of ticks(range.left / size, range.right / size, (box.right - box.left) / 70)) {
      line(context, toX(tick * size), box.bottom, toX(tick * size), box.bottom + 4);
      context.fillText(shown(tick), toX(tick * size), box.bottom + 6);
    }
    const below = this.state.log ? this.series.flatMap((one) => one.raw).filter((y) => y !== null && y <= 0).length : 0;
    context.textAlign = "left";
    if (below) context.fillText(`${below} values ≤ 0 are not shown`, box.left, box.bottom + 21);
    context.textAlign = "right";
    const unit = this.unit ? ` / ${this.unit.name}` : "";
    context.fillText(AXES[this.state.axis].label + unit, box.right, box.bottom + 21);
  }

  // Dotted lines where a training was resumed.
  drawRestarts(context, theme, box, toX) {
    context.strokeStyle = theme.muted;
    context.setLineDash([1, 4]);
    for (const run of new Set(this.series.map((one) => one.run))) {
      for (const x of restarts(run, this.state.axis)) line(context, toX(x), box.top, toX(x), box.bottom);
    }
    context.setLineDash([]);
  }

  drawSeries(context, theme, box, one, toX, toY) {
    const color = theme.colors[one.color];
    context.save();
    context.beginPath();
    context.rect(box.left - 3, box.top - 3, box.right - box.left + 6, box.bottom - box.top + 6);
    context.clip();
    if (one.ys !== one.raw) {
      context.globalAlpha = 0.3;
      curve(context, one.xs, one.raw, color, [], 1, toX, toY, this.state.log);
      context.globalAlpha = 1;
    }
    curve(context, one.xs, one.ys, color, DASHES[one.dash], 2, toX, toY, this.state.log);
    context.restore();
    context.fillStyle = color;
    one.raw.forEach((y, i) => {
      if (y === null || Number.isFinite(y) || one.xs[i] === null) return;
      const x = toX(one.xs[i]);
      context.beginPath(); // NaN and infinity have no place, but must not go unseen
      context.moveTo(x - 5, box.top - 10);
      context.lineTo(x + 5, box.top - 10);
      context.lineTo(x, box.top - 1);
      context.fill();
    });
  }

  drawCursor(context, theme, { box, toX, toY }, cursor) {
    const x = toX(cursor);
    if (x < box.left - 1 || x > box.right + 1) return;
    context.strokeStyle = theme.text;
    line(context, x, box.top, x, box.bottom);
    for (const one of this.series) {
      const i = nearest(one.marks, cursor);
      if (i < 0 || !Number.isFinite(one.ys[i]) || (this.state.log && one.ys[i] <= 0)) continue;
      context.beginPath();
      context.arc(toX(one.xs[i]), toY(one.ys[i]), 4, 0, 7);
      context.fillStyle = theme.colors[one.color];
      context.fill();
    }
  }

  // The values at the cursor, or the last ones.
  read() {
    const { cursor, axis } = this.state;
    const at = (x) => (this.unit ? `${shown(x / this.unit.size)} ${this.unit.name}` : shown(x));
    const said = [];
    const rows = this.series.map((one) => {
      const i = cursor === null ? lastNumber(one) : nearest(one.marks, cursor);
      const value = i < 0 ? "" : shown(one.ys[i]);
      const place = i < 0 ? "" : one.xs[i] === null ? "" : `${AXES[axis].label} ${at(one.xs[i])}`;
      said.push(`${one.name} ${value || "no number"}`);
      const swatch = make("span", { class: `swatch c${one.color} dash${one.dash}` });
      return make("tr", {}, make("th", { scope: "row" }, swatch, " ", ...wrappable(one.name)), make("td", {}, value), make("td", {}, place));
    });
    this.readout.replaceChildren(...rows);
    const x = cursor === null ? this.stops[this.stops.length - 1] : cursor;
    this.canvas.setAttribute("aria-valuenow", Math.max(0, nearest(this.stops, x)));
    this.canvas.setAttribute("aria-valuetext", `${AXES[axis].label} ${x === undefined ? "unknown" : at(x)}: ${said.join("; ")}`);
  }

  point(event) {
    if (!this.plot) return;
    const { box, range } = this.plot;
    const share = (event.offsetX - box.left) / (box.right - box.left);
    const i = nearest(this.stops, range.left + share * (range.right - range.left));
    this.moved(i < 0 ? null : this.stops[i]);
  }

  step(event) {
    const last = this.stops.length - 1;
    const here = this.state.cursor === null ? last : nearest(this.stops, this.state.cursor);
    const page = Math.max(1, Math.round(last / 10));
    const to = {
      ArrowLeft: here - 1, ArrowDown: here - 1, ArrowRight: here + 1, ArrowUp: here + 1,
      PageDown: here - page, PageUp: here + page, Home: 0, End: last,
    }[event.key];
    if (event.key === "Escape") this.moved(null);
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.moved(this.stops[Math.min(last, Math.max(0, to))]);
  }

  saveCsv() {
    const runs = this.runs.filter((run) => !this.state.hidden.has(run.name));
    download(fileName(this.title, ".csv"), new Blob([csv(csvRows(runs, this.keys))], { type: "text/csv" }));
  }

  savePng() {
    const theme = themeNow();
    const [first, row] = [56, 20];
    const height = PNG.height + first + row * this.series.length;
    const canvas = make("canvas", { width: PNG.width * PNG.scale, height: height * PNG.scale });
    const context = canvas.getContext("2d");
    context.scale(PNG.scale, PNG.scale);
    context.fillStyle = theme.back;
    context.fillRect(0, 0, PNG.width, height);
    context.fillStyle = theme.text;
    context.font = theme.font.replace("12px", "bold 16px");
    context.fillText(this.title, 16, 30);
    context.translate(0, 44);
    this.draw(context, PNG.width, PNG.height, theme);
    context.font = theme.font;
    context.textAlign = "left";
    context.textBaseline = "middle";
    this.series.forEach((one, i) => {
      const y = PNG.height + row * (i + 0.3);
      curve(context, [16, 48], [y, y], theme.colors[one.color], DASHES[one.dash], 2, (v) => v, (v) => v, false);
      context.fillStyle = theme.text;
      context.fillText(one.name, 58, y);
    });
    canvas.toBlob((blob) => download(fileName(this.title, ".png"), blob), "image/png");
  }
}

function line(context, x1, y1, x2, y2) {
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

// Lines between neighbours; a missing number is a gap, and a point without neighbours a dot.
function curve(context, xs, ys, color, dash, width, toX, toY, isLog) {
  context.strokeStyle = context.fillStyle = color;
  context.lineWidth = width;
  context.lineJoin = "round";
  const isThere = (i) => xs[i] !== null && Number.isFinite(ys[i]) && (!isLog || ys[i] > 0);
  const isSkipped = (i) => i >= 0 && i < ys.length && ys[i] === null; // the key was not reported then: no gap
  const dots = [];
  let before = -1;
  context.setLineDash(dash);
  context.beginPath();
  for (let i = 0; i < ys.length; i++) {
    if (isSkipped(i)) continue;
    if (!isThere(i)) {
      before = -1;
      continue;
    }
    let after = i + 1;
    while (isSkipped(after)) after++;
    if (before < 0) context.moveTo(toX(xs[i]), toY(ys[i]));
    else context.lineTo(toX(xs[i]), toY(ys[i]));
    if (before < 0 && !(after < ys.length && isThere(after))) dots.push(i);
    before = i;
  }
  context.stroke();
  context.setLineDash([]);
  for (const i of dots) {
    context.beginPath();
    context.arc(toX(xs[i]), toY(ys[i]), width + 1, 0, 7);
    context.fill();
  }
  context.lineWidth = 1;
}

function lastNumber(one) {
  for (let i = one.raw.length - 1; i >= 0; i--) if (one.raw[i] !== null) return i;
  return -1;
}

// Where on the axis a run was resumed: at the last entry up to then.
function restarts(run, axis) {
  if (!Object.hasOwn(run.columns, "iteration")) return [];
  const iterations = numbers(run.columns.iteration);
  const xs = positions(run, axis);
  const found = [];
  for (const start of run.starts.slice(1)) {
    let last = null;
    for (let i = 0; i < xs.length; i++) if (xs[i] !== null && iterations[i] <= start.iteration) last = xs[i];
    if (last !== null) found.push(last);
  }
  return found;
}
