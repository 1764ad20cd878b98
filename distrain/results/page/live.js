// Asks for news again and again, while somebody looks.

const live = { have: JSON.parse(byId("data").textContent).have, timer: null, isBusy: false };
const EVERY_MS = 1000;
const PATIENCE = 5; // pauses are so many times as long as an answer takes, on a slow line

function say(text, isBad) {
  const place = byId("live");
  place.hidden = false;
  if (place.textContent !== text) place.textContent = text;
  place.classList.toggle("warning", isBad);
}

async function ask() {
  const answer = await fetch(`/data?have=${encodeURIComponent(live.have)}`, { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.status === 401 ? "open the address with the token again" : `it answers ${answer.status}`);
  const data = await answer.json();
  if (data.version !== live.version && live.version) location.reload(); // a newer distrain has another page
  live.version = data.version;
  if (data.runs.length !== page.runs.length) location.reload(); // a monitor of other trainings at the same address
  live.have = data.have;
  show({ ...data, runs: data.runs.map((run, i) => (run ? joined(page.runs[i], run) : page.runs[i])) });
}

// A run of which the news has all, or the rows from one on and what else has changed.
function joined(old, news) {
  if (!("from" in news)) return news;
  const columns = Object.fromEntries(Object.entries(news.columns).map(([key, rows]) => [key, [...old.columns[key].slice(0, news.from), ...rows]]));
  return { ...old, ...news, columns };
}

async function follow() {
  if (live.isBusy || document.hidden) return;
  clearTimeout(live.timer);
  live.isBusy = true;
  const begun = performance.now();
  try {
    await ask();
    live.failed = null;
    say("Live: what is new appears by itself.", false);
  } catch (error) {
    live.failed = live.failed || new Date();
    say(`No news since ${live.failed.toLocaleTimeString()}: ${error instanceof TypeError ? "the monitor does not answer" : error.message}. Trying again.`, true);
  }
  live.isBusy = false;
  live.timer = setTimeout(follow, Math.max(EVERY_MS, PATIENCE * (performance.now() - begun)));
}

document.addEventListener("visibilitychange", follow);
follow();
