// The ranks of a training, and the machine that the page comes from.

const PHASES = ["data", "forward", "backward", "exchange", "update"];
const SLOW = 0.2; // of the median of the others' own time: a straggler takes so much more,
const MATTERS = 0.1; // and that is so much of an iteration
const STALE_S = 15; // without news of any rank
const MOST_ROWS = 200;
const WORST_FIRST = ["failed", "gone", "stopped", "silent", "running", "done"];
const BAD = WORST_FIRST.slice(0, 4);

// What a file says of ranks, corrected by what is known of their processes: who is dead or stopped cannot say so.
function judged(told, machine) {
  if (!told || !machine) return told;
  const ranks = told.ranks.map((rank) => {
    const process = machine.host === rank.host ? machine.processes[rank.pid] : undefined;
    if (!process || process.state === "running" || rank.state === "done" || rank.state === "failed") return rank;
    const why = process.state === "gone" ? `Its process ${rank.pid} has ended.` : `Its process ${rank.pid} is stopped.`;
    return { ...rank, state: process.state, failure: rank.failure || why };
  });
  return { ...told, ranks };
}

function total(time) {
  return PHASES.reduce((sum, phase) => sum + (time[phase] || 0), 0);
}

// Seconds an iteration in which a rank does not wait for the others.
function own(rank) {
  return total(rank.time) - (rank.time.exchange || 0);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

// The rank that the others wait for, or null.
function straggler(ranks) {
  const running = ranks.filter((rank) => rank.state === "running" && total(rank.time) > 0);
  if (running.length < 2) return null;
  const slowest = running.reduce((a, b) => (own(b) > own(a) ? b : a));
  const others = median(running.filter((rank) => rank !== slowest).map(own));
  return own(slowest) > others + Math.max(SLOW * others, MATTERS * total(slowest.time)) ? slowest : null;
}

function ago(seconds) {
  if (seconds < 1.5) return "now";
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

function percent(share) {
  return `${Math.round(share * 100)} %`;
}

// A bar of parts with the names that its colours have in the style; what it shows is also said in words.
function bar(parts, label) {
  const element = make("span", { class: "bar", role: "img", "aria-label": label, title: label });
  for (const [name, share] of parts) {
    const part = make("span", { class: name });
    part.style.flexGrow = share.toFixed(3);
    element.append(part);
  }
  return element;
}

function split(rank) {
  const sum = total(rank.time);
  if (!sum) return make("td", {}, "");
  const said = PHASES.map((phase) => `${phase} ${percent((rank.time[phase] || 0) / sum)}`).join(", ");
  return make("td", { class: "split" }, bar(PHASES.map((phase) => [phase, (rank.time[phase] || 0) / sum]), said));
}

function rankRow(rank, slowest, told, machine) {
  const isSlowest = rank === slowest;
  const isBad = BAD.includes(rank.state);
  const sum = total(rank.time);
  const seen = told.time - rank.seen + (told.age || 0);
  const here = machine && machine.host === rank.host ? machine.processes[rank.pid] : undefined;
  const number = (text) => make("td", { class: "number" }, text);
  const state = isBad ? make("strong", { class: "bad" }, rank.state) : isSlowest ? make("strong", { class: "slow" }, "straggler") : rank.state;
  const cells = [
    make("td", {}, state), make("td", {}, rank.host), number(rank.iteration.toLocaleString("en")), make("td", {}, rank.phase),
    number(sum ? `${shown(Number((sum * 1000).toPrecision(3)))} ms` : ""), number(sum ? percent(rank.time.data / sum) : ""), split(rank),
    number(rank.seen ? ago(Math.max(0, seen)) : "never"),
  ];
  if (machine) {
    cells.push(number(here && here.busy !== null ? percent(here.busy) : ""), number(here && here.memory !== null ? bytes(here.memory) : ""));
  }
  cells.push(make("td", { class: "failure" }, rank.failure || (isSlowest ? "The others wait for it." : "")));
  return make("tr", isBad ? { class: "different" } : {}, make("th", { scope: "row" }, rank.rank), ...cells);
}

function summary(told) {
  const counts = WORST_FIRST.map((state) => [state, told.ranks.filter((rank) => rank.state === state).length]).filter(([, n]) => n);
  const missing = told.world - told.ranks.length;
  const words = counts.map(([state, n]) => `${n} ${state}`);
  if (missing > 0) words.push(`${missing} not heard of yet`);
  return `${told.world} ${told.world === 1 ? "rank" : "ranks"}: ${words.join(", ")}`;
}

// What a page shows of one run's ranks: a heading, sentences, a table.
function ranksOf(run, told, i, machine) {
  const slowest = straggler(told.ranks);
  const order = (rank) => (rank === slowest ? 1.5 : WORST_FIRST.indexOf(rank.state));
  const many = told.ranks.length > MOST_ROWS;
  const listed = many ? [...told.ranks].sort((a, b) => order(a) - order(b) || a.rank - b.rank).slice(0, MOST_ROWS) : told.ranks;
  const heads = ["rank", "state", "host", "iteration", "phase", "per iteration", "waits for data", "time", "heard"];
  if (machine) heads.push("processor", "memory");
  heads.push("");
  const table = make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...listed.map((rank) => rankRow(rank, slowest, told, machine))));
  const isOver = told.ranks.every((rank) => ["done", "failed", "gone"].includes(rank.state));
  const stale = told.age > STALE_S && !isOver ? `Nothing has been heard of these ranks for ${ago(told.age).replace(" ago", "")}: the training has ended, or hangs.` : "";
  return {
    head: [make("span", { class: `swatch c${i % COLORS}` }), ` ${run.name}: ${summary(told)}`],
    note: stale || (many ? `The ${MOST_ROWS} that need attention most are shown.` : ""),
    key: PHASES.map((phase) => make("span", {}, make("span", { class: `key ${phase}` }), ` ${phase}`)),
    label: `Ranks of ${run.name}`,
    table,
  };
}

// Puts these parts into an element, where they may be already.
function renewParts(element, parts) {
  if (!element.children.length) {
    element.append(make("h3"), make("p", { class: "warning", role: "status" }), make("p", { class: "keys" }), make("div", { class: "scroll tall", tabindex: 0, role: "region" }));
  }
  const [head, note, keys, place] = element.children;
  renew(head, make("span", {}, ...parts.head));
  if (note.textContent !== parts.note) note.textContent = parts.note;
  renew(keys, make("span", {}, ...parts.key));
  place.setAttribute("aria-label", parts.label);
  renew(place, parts.table);
}

// Ranks that need attention, as events.
function faults(told) {
  if (!told) return [];
  return told.ranks.filter((rank) => BAD.includes(rank.state)).map((rank) => ({
    time: rank.seen ? new Date(rank.seen * 1000).toISOString().replace(/\.\d+Z$/, "+00:00") : "",
    what: `rank ${rank.rank} on ${rank.host} ${rank.state === "failed" ? "has failed" : `is ${rank.state}`}${rank.failure ? `: ${rank.failure}` : ""}`,
    iteration: rank.iteration, size: null, isFault: true,
  }));
}

function machineTable(machine) {
  const row = (name, share, text) =>
    make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "split" }, share === null ? "" : bar([["used", share], ["free", 1 - share]], text)), make("td", {}, text));
  const rows = [];
  if (machine.busy !== null) rows.push(row(`${machine.cores} cores`, machine.busy, `${percent(machine.busy)} busy`));
  rows.push(row("load", null, `${machine.load.map((one) => one.toFixed(2)).join(", ")} (over 1, 5, 15 minutes)`));
  if (machine.memory) {
    const used = machine.memory.total - machine.memory.available;
    rows.push(row("memory", used / machine.memory.total, `${bytes(used)} of ${bytes(machine.memory.total)} used`));
  }
  return make("table", {}, make("caption", {}, machine.host), make("tbody", {}, ...rows));
}
