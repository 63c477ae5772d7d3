// The page: what is served, the search, the keys.
const $ = (id) => document.getElementById(id);
let info = null;
let search = null; // the last one, or null
let running = null; // the AbortController of the one under way
let said = () => ""; // what stands as an alert, said again in another language

function tell(sentence) {
  said = sentence;
  $("alert").textContent = sentence();
}

// A failure is said in `place`, and a missing key is asked for.
function failed(error, place) {
  if (!(error instanceof Failure)) throw error;
  if (error.status === 401) askForKey(error);
  else if (place) place.textContent = error.sentence();
  else tell(() => error.sentence());
}

function askForKey(failure) {
  const wasGiven = key !== null;
  useKey(null);
  tell(() => (wasGiven ? say("keyWrong") : ""));
  $("key-form").hidden = false;
  $("forget").hidden = true;
  $("key").value = "";
  $("key").focus();
}

async function loadInfo() {
  try {
    info = await send("info");
  } catch (error) {
    failed(error);
    return;
  }
  patience = 1000 * (info.limits.request_seconds + info.limits.read_seconds);
  tell(() => (info.indexes.length ? "" : say("noIndex")));
  $("key-form").hidden = true;
  $("forget").hidden = key === null;
  $("search").hidden = $("keys").hidden = info.indexes.length === 0;
  offerIndexes();
  label();
  $("query").focus();
}

// The first two are chosen: base and tuned, side by side.
function offerIndexes() {
  const offered = info.indexes.map(({ name }, place) => {
    const box = made("input", { type: "checkbox" });
    box.value = name;
    box.checked = place < 2;
    return made("label", {}, box, " ", name);
  });
  $("indexes").replaceChildren($("indexes").querySelector("legend"), ...offered);
  $("indexes").hidden = info.indexes.length < 2;
}

function requestOf({ query, topK, where }, index) {
  return { query, top_k: topK, where, index };
}

async function start() {
  const query = $("query").value.replace(/\s+/g, " ").trim();
  const chosen = [...$("indexes").querySelectorAll("input:checked")].map((box) => box.value);
  if (!query || !chosen.length) {
    tell(() => say(query ? "noneChosen" : "noQuery"));
    return;
  }
  running?.abort();
  const own = (running = new AbortController());
  const where = $("where").value.split(/[;；]/).map((one) => one.trim()).filter(Boolean);
  const next = { query, topK: Number($("top-k").value), where };
  tell(() => "");
  busy(true);
  try {
    next.columns = await Promise.all(chosen.map((index) => columnOf(next, index, own.signal)));
    search = next;
    render();
  } catch (error) {
    if (own === running) failed(error);
  } finally {
    if (own === running) busy(false);
  }
}

// A column whose search fails says so, and the others are shown. A wrong key is a fault of all.
async function columnOf(search, index, signal) {
  const began = performance.now();
  try {
    const { hits, truncated } = await send("search", requestOf(search, index), signal);
    return { index, hits, truncated, seconds: (performance.now() - began) / 1000 };
  } catch (error) {
    if (!(error instanceof Failure) || error.status === 401) throw error;
    return { index, failure: error };
  }
}

function busy(isBusy) {
  $("columns").setAttribute("aria-busy", String(isBusy));
  $("status").textContent = isBusy ? say("searching") : "";
}

function render() {
  $("columns").replaceChildren(...(search?.columns ?? []).map((column) => columnElement(search, column)));
}

function label() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-label]")) element.textContent = say(element.dataset.label);
  $("language").textContent = say("otherLanguage");
  $("query").placeholder = say("placeholder");
  $("query").setAttribute("aria-label", say("placeholder"));
  tell(said);
  $("model").textContent = info ? shown(info.model.name) : "";
  if (info) describe();
}

function describe() {
  const { model, reranker, versions } = info;
  const rows = [
    ["model", model.name], ["fingerprint", model.fingerprint.slice(0, 16)], ["outputs", model.outputs.join(", ")],
    ["similarity", model.similarity], ["dimension", [model.dimension, ...model.dimensions].join(", ")],
    ["reads", say("lengths", model.max_length, model.query_max_length)], ["reranker", reranker ?? "–"],
    ["versions", Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ")],
  ];
  const facts = made("dl", {}, ...rows.flatMap(([name, value]) => [made("dt", {}, say(name)), made("dd", {}, value)]));
  $("facts").replaceChildren(facts, made("div", { class: "scroll" }, indexTable()));
  $("about").hidden = false;
}

function indexTable() {
  const names = ["index", "model", "fingerprint", "passages", "dimension", "lanes", "engine", "task", "built"];
  const rows = info.indexes.map((one) => [
    one.name, one.model, one.fingerprint.slice(0, 16), characters(one.n_passages), one.dimension, one.lanes.join(", "),
    one.engine, one.task || "–", `${one.created.slice(0, 16).replace("T", " ")} UTC`,
  ]);
  return made("table", {},
    made("tr", {}, ...names.map((name) => made("th", { scope: "col" }, say(name)))),
    ...rows.map((row) => made("tr", {}, ...row.map((value) => made("td", {}, value)))));
}

// From hit to hit: `down` in a column, `across` to another.
function move(down, across) {
  const columns = [...$("columns").querySelectorAll("section")].map((one) => [...one.querySelectorAll(".hit")]);
  const current = document.activeElement.closest(".hit");
  const column = columns.findIndex((hits) => hits.includes(current));
  if (column < 0) {
    columns.flat()[0]?.focus();
    return;
  }
  const place = columns[column].indexOf(current) + down;
  if (place < 0) $("query").focus();
  else {
    const hits = columns[column + across] ?? [];
    hits[Math.min(place, hits.length - 1)]?.focus();
  }
}

const MOVES = { j: [1, 0], k: [-1, 0], ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const isWriting = event.target.matches("input");
  const isMove = event.key in MOVES && (event.key.length === 1 || event.target.closest(".hit"));
  if (event.target === $("query") && event.key === "ArrowDown") move(1, 0);
  else if (isWriting) return;
  else if (event.key === "/") $("query").select();
  else if (isMove) move(...MOVES[event.key]);
  else if (event.key === "Enter" && event.target.matches(".hit")) event.target.querySelector(".fold")?.click();
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", onKey);
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = $("key").value.trim();
  $("key").value = "";
  if (!/^[\x21-\x7e]+$/.test(given)) {
    tell(() => say("keyUnsendable"));
    return;
  }
  useKey(given);
  loadInfo();
});
$("forget").addEventListener("click", () => {
  useKey(null);
  location.reload();
});
$("language").addEventListener("click", () => {
  language = language === "en" ? "zh" : "en";
  remember("language", language);
  label();
  render();
});
label();
loadInfo();
