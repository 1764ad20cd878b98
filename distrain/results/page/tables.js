// What is said in words: settings, events, the graph.

function words(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

// A command as one would type it.
function typed(command) {
  if (!Array.isArray(command)) return words(command);
  return command.map(String).map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
}

function counted(list) {
  if (!Array.isArray(list)) return words(list);
  const counts = new Map();
  for (const one of list) counts.set(one, (counts.get(one) || 0) + 1);
  return [...counts].map(([name, n]) => (n > 1 ? `${n} × ${name}` : words(name))).join(", ");
}

function bytes(size) {
  for (const [unit, one] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (size >= one) return `${(size / one).toPrecision(3)} ${unit}`;
  }
  return `${size} bytes`;
}

function when(time) {
  return words(time).replace("T", " ").replace("+00:00", " UTC");
}

// What a run was made with, by name: the settings of its latest start.
function settingsOf(run) {
  const found = new Map([["folder of results", run.path]]);
  const last = (key) => numbers(Object.hasOwn(run.columns, key) ? run.columns[key] : []).findLast(Number.isFinite);
  const thinned = run.stride > 1 ? `, one in ${run.stride} is shown` : "";
  found.set("log", `${run.log}: ${run.total.toLocaleString("en")} entries${thinned}`);
  if (last("iteration") !== undefined) found.set("iterations", last("iteration").toLocaleString("en"));
  if (last("epoch") !== undefined) found.set("epochs", shown(last("epoch")));
  if (last("elapsed_time") !== undefined) found.set("time", `${shown(last("elapsed_time"))} s`);
  const start = run.starts[run.starts.length - 1];
  if (!start) return found;
  const { command, folder, git, seed, world, machine, versions, environment, time, iteration, after, ...more } = start;
  found.set("started", when(run.starts[0].time) + (run.starts.length > 1 ? `; resumed, last ${when(time)}` : ""));
  found.set("starts", startsOf(run));
  found.set("command", typed(command));
  found.set("in folder", words(folder));
  found.set("git revision", git ? words(git.revision) + (git.is_changed ? ", with changes since" : "") : "none");
  found.set("seed", words(seed));
  if (world) found.set("ranks", words(world.ranks)).set("hosts", counted(world.hosts)).set("launcher", words(world.launcher));
  for (const group of [machine, versions, environment, more]) {
    for (const [name, value] of Object.entries(group || {})) found.set(name, words(value));
  }
  return found;
}

// How many starts there were, and how many of them came after what: "4, 1 after a failure, 2 after a time limit".
function startsOf(run) {
  const counts = new Map();
  for (const { after } of run.starts) if (after) counts.set(words(after), (counts.get(words(after)) || 0) + 1);
  return [run.starts.length, ...[...counts].map(([after, count]) => `${count} after a ${after}`)].join(", ");
}

function settingsTable(runs, onlyDifferent) {
  const settings = runs.map(settingsOf);
  const names = new Set(settings.flatMap((one) => [...one.keys()]));
  const rows = [];
  for (const name of names) {
    const values = settings.map((one) => one.get(name) || "");
    const isDifferent = new Set(values).size > 1;
    if (onlyDifferent && !isDifferent) continue;
    const mark = isDifferent ? " ≠" : "";
    const cells = values.map((value) => make("td", {}, value));
    rows.push(make("tr", isDifferent ? { class: "different" } : {}, make("th", { scope: "row" }, name + mark), ...cells));
  }
  const heads = runs.map((run, i) => make("th", { scope: "col" }, make("span", { class: `swatch c${i % COLORS}` }), " ", run.name));
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "setting"), ...heads));
  return make("table", {}, head, make("tbody", {}, ...rows));
}

// Starts, files and faults, in the order of time.
function eventsOf(run, ranks) {
  const starts = run.starts.map((start, i) => {
    const ranks = start.world && start.world.ranks;
    const why = i && start.after ? ` after a ${words(start.after)}` : "";
    const what = (i ? "resumed" : "started") + why + (ranks ? ` on ${ranks} ${ranks === 1 ? "rank" : "ranks"}` : "");
    return { time: words(start.time), what, iteration: start.iteration, size: null };
  });
  const files = run.snapshots.map((one) => ({ time: one.time, what: one.name, iteration: one.iteration, size: one.nbytes }));
  return [...starts, ...files, ...faults(ranks)].sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
}

function eventsTable(runs, ranks) {
  const rows = runs.flatMap((run, i) =>
    eventsOf(run, ranks[i]).map((event) =>
      make("tr", {},
        make("td", {}, make("span", { class: `swatch c${i % COLORS}` }), " ", run.name),
        make("td", {}, when(event.time)),
        make("td", event.isFault ? { class: "bad" } : {}, event.what),
        make("td", { class: "number" }, typeof event.iteration === "number" ? shown(event.iteration) : words(event.iteration)),
        make("td", { class: "number" }, event.size === null ? "" : bytes(event.size)))));
  if (!rows.length) return make("p", { class: "note" }, "No start is recorded, and there are no snapshots.");
  const heads = ["run", "time", "event", "iteration", "size"].map((name) => make("th", { scope: "col" }, name));
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}

function graphOf(run, isOpen, toggled) {
  const block = make("details", isOpen ? { open: "" } : {}, make("summary", {}, run.name));
  if (run.picture) {
    // As an image, because nothing that an image contains is ever executed or fetched.
    block.append(make("img", { src: `data:image/svg+xml;base64,${run.picture}`, alt: `Graph of ${run.name}; its text follows` }));
  } else {
    block.append(make("p", { class: "note" }, run.picture_note));
  }
  block.append(make("pre", { tabindex: 0, "aria-label": `cg.dot of ${run.name}` }, run.graph));
  block.addEventListener("toggle", () => toggled(block.open));
  return block;
}
