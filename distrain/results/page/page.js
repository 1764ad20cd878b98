// The page: `show(data)` puts data into it, as often as there is new data. What the reader has chosen stays.

const page = {
  state: { axis: "iteration", smoothing: 0, log: false, hidden: new Set(), cursor: null },
  title: document.title,
  runs: [],
  ranks: [], // one item a run, or null
  charts: new Map(), // by title
  opened: new Set(), // runs whose graph is open
  due: null, // what the next frame has to draw
};
const MOST_FAULTS = 5; // above the curves; the table has them all
const byId = (id) => document.getElementById(id);

function show(data) {
  page.runs = data.runs;
  page.ranks = data.ranks.map((told) => judged(told, data.machine));
  byId("about").textContent = `${data.runs.map((run) => run.name).join(", ")} · ${when(data.time)} · distrain ${data.version}`;
  const n = page.ranks.reduce((sum, told) => sum + faults(told).length, 0);
  document.title = (n ? `(${n} of the ranks!) ` : "") + page.title;
  showLegend();
  showProblems();
  showCharts();
  showRanks(data.machine);
  showSettings();
  renew(byId("events"), eventsTable(page.runs, page.ranks));
  showGraphs();
}

// Puts elements into a place; what is there already and would look the same stays, with what the reader has selected.
function renew(place, ...fresh) {
  const old = [...place.childNodes];
  if (old.length === fresh.length && old.every((one, i) => one.isEqualNode(fresh[i]))) return;
  if (old.length === 1 && fresh.length === 1 && old[0].rows && fresh[0].rows) renewRows(old[0], [...fresh[0].rows]);
  else place.replaceChildren(...fresh);
}

function renewRows(table, fresh) {
  const old = [...table.rows];
  fresh.forEach((row, i) => {
    if (i >= old.length) table.tBodies[0].append(row);
    else if (!old[i].isEqualNode(row)) old[i].replaceWith(row);
  });
  for (const row of old.slice(fresh.length)) row.remove();
}

function showLegend() {
  const buttons = page.runs.map((run, i) => {
    const isShown = !page.state.hidden.has(run.name);
    const button = make("button", { type: "button", "aria-pressed": isShown }, make("span", { class: `swatch c${i % COLORS}` }), run.name);
    button.addEventListener("click", () => {
      if (!page.state.hidden.delete(run.name)) page.state.hidden.add(run.name);
      button.setAttribute("aria-pressed", !page.state.hidden.has(run.name));
      refresh();
    });
    return button;
  });
  const focused = [...byId("legend").children].indexOf(document.activeElement);
  renew(byId("legend"), ...buttons);
  if (focused >= 0 && buttons[focused]) buttons[focused].focus();
}

function showProblems() {
  const lines = page.runs.flatMap((run, i) => {
    const said = [...run.problems];
    if (run.stride > 1) said.push(`The log is long: one in ${run.stride} of its ${run.total.toLocaleString("en")} entries is shown, and the last.`);
    const found = faults(page.ranks[i]);
    const lines = found.slice(0, MOST_FAULTS).map((fault) => make("p", { class: "bad" }, `${run.name}: ${fault.what}`));
    if (found.length > MOST_FAULTS) lines.push(make("p", { class: "bad" }, `${run.name}: … and ${found.length - MOST_FAULTS} more ranks`));
    return [...lines, ...said.map((text) => make("p", {}, `${run.name}: ${text}`))];
  });
  renew(byId("problems"), ...lines);
}

function showRanks(machine) {
  const tables = page.runs.flatMap((run, i) => (page.ranks[i] ? [ranksOf(run, page.ranks[i], i, machine)] : []));
  byId("ranks-section").hidden = !tables.length;
  if (byId("ranks").children.length !== tables.length) byId("ranks").replaceChildren(...tables.map(() => make("div")));
  tables.forEach((parts, i) => renewParts(byId("ranks").children[i], parts));
  byId("machine-section").hidden = !machine;
  if (machine) renew(byId("machine"), machineTable(machine));
}

function showCharts() {
  const groups = grouped(page.runs);
  for (const [title, chart] of page.charts) {
    if (!groups.has(title)) {
      watcher.unobserve(chart.canvas);
      chart.element.remove();
      page.charts.delete(title);
    }
  }
  for (const [title, keys] of groups) {
    let chart = page.charts.get(title);
    if (!chart) {
      chart = new Chart(title, page.state, moveCursor);
      page.charts.set(title, chart);
      byId("charts").append(chart.element);
      watcher.observe(chart.canvas);
      sizes.observe(chart.canvas);
    }
    chart.update(page.runs, keys);
  }
  filter();
}

function filter() {
  const wanted = byId("filter").value.trim().toLowerCase();
  let n = 0;
  for (const chart of page.charts.values()) {
    const isWanted = chart.keys.some((key) => key.toLowerCase().includes(wanted));
    chart.element.hidden = !isWanted;
    n += isWanted;
  }
  const why = page.charts.size ? "No key has this in its name." : "There is no number in the log yet.";
  byId("nothing").textContent = n ? "" : why;
}

function showSettings() {
  byId("only-different-label").hidden = page.runs.length < 2;
  renew(byId("settings"), settingsTable(page.runs, page.runs.length > 1 && byId("only-different").checked));
}

function showGraphs() {
  const runs = page.runs.filter((run) => run.graph !== null);
  byId("graphs-section").hidden = !runs.length;
  renew(byId("graphs"), ...runs.map((run) =>
    graphOf(run, page.opened.has(run.name), (isOpen) => {
      if (isOpen) page.opened.add(run.name);
      else page.opened.delete(run.name);
    })));
}

// Draws the charts anew, or their cursors only, in the next frame and once.
function soon(what) {
  const isDue = page.due !== null;
  page.due = page.due === "charts" ? "charts" : what;
  if (isDue) return;
  requestAnimationFrame(() => {
    const due = page.due;
    page.due = null;
    for (const chart of page.charts.values()) {
      if (due === "charts") chart.refresh();
      else if (chart.isVisible) chart.paint(true);
    }
  });
}

function refresh() {
  soon("charts");
}

function moveCursor(x) {
  if (x === page.state.cursor) return;
  page.state.cursor = x;
  soon("cursors");
}

function chartOf(canvas) {
  return [...page.charts.values()].find((chart) => chart.canvas === canvas);
}

// Canvases that nobody sees are not drawn.
const watcher = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    const chart = chartOf(target);
    if (chart) chart.appear(isIntersecting);
  }
}, { rootMargin: "200px" });
const sizes = new ResizeObserver((changed) => {
  for (const { target } of changed) {
    const chart = chartOf(target);
    if (chart && chart.isVisible) chart.paint();
  }
});

byId("controls").addEventListener("submit", (event) => event.preventDefault());
for (const radio of document.querySelectorAll("input[name=axis]")) {
  radio.addEventListener("change", () => {
    page.state.axis = radio.value;
    page.state.cursor = null;
    refresh();
  });
}
byId("smoothing").addEventListener("input", (event) => {
  page.state.smoothing = Number(event.target.value);
  byId("smoothing-value").textContent = event.target.value;
  refresh();
});
byId("log").addEventListener("change", (event) => {
  page.state.log = event.target.checked;
  refresh();
});
byId("filter").addEventListener("input", filter);
byId("only-different").addEventListener("change", showSettings);
byId("csv").addEventListener("click", () => {
  const keys = [...new Set(page.runs.flatMap((run) => Object.keys(run.columns)))].filter((key) => !AXIS_KEYS.includes(key));
  download("report.csv", new Blob([csv(csvRows(page.runs, keys))], { type: "text/csv" }));
});
for (const query of ["(prefers-color-scheme: dark)", "print"]) {
  matchMedia(query).addEventListener("change", () => {
    for (const chart of page.charts.values()) {
      chart.appear(chart.isVisible || query === "print");
    }
  });
}

byId("controls").reset(); // browsers keep what was chosen over a reload
show(JSON.parse(byId("data").textContent));
