"use strict";
// State, filters, and what follows from them. The state is the address's hash, so that a view can be sent on.

const FORM = document.getElementById("filters");
const FILTERS = ["task", "shots", "kind", "family", "min", "max", "q", "x"];
const byElement = (id) => document.getElementById(id);

const DEFAULTS = {
  task: DATA.overall.length ? MEAN : DATA.tables.length ? baseOf(DATA.tables[0].task) : "",
  shots: "",
  kind: "",
  family: "",
  min: "",
  max: "",
  q: "",
  x: "parameters",
  sort: "",
  open: "",
};
const state = { ...DEFAULTS };

function readHash() {
  Object.assign(state, DEFAULTS);
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (name in DEFAULTS) state[name] = value;
  if (!(state.x in SIZES)) state.x = DEFAULTS.x;
}

function changed(some) {
  Object.assign(state, some);
  const told = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
  history.replaceState(null, "", `#${new URLSearchParams(told)}`);
}

function tablesInView() {
  if (setOf(state.task)) return [];
  return DATA.tables.filter(
    (one) =>
      (!state.task || baseOf(one.task) === state.task) && (!state.shots || String(one.num_fewshot) === state.shots),
  );
}

const matchesModel = (row) =>
  (!state.kind || state.kind === `role:${row.role}` || state.kind === `method:${row.method}`) &&
  (!state.family || row.family === state.family) &&
  (!state.min || row.parameters >= 1e6 * Number(state.min)) &&
  (!state.max || (row.parameters != null && row.parameters <= 1e6 * Number(state.max))) &&
  state.q
    .toLowerCase()
    .split(/\s+/)
    .every((word) => row.words.includes(word));

function matches(row) {
  const task = state.task === "" ? row.table != null : row.base === state.task;
  const shots = !state.shots || setOf(state.task) || String(row.shots) === state.shots;
  return task && shots && matchesModel(row);
}

function fillFilters() {
  const distinct = (values) => [...new Set(values)].filter((value) => value != null).sort();
  const options = (name, entries) => {
    const select = FORM.elements[name];
    for (const [value, text] of entries) select.append(new Option(text, value));
  };
  const all = [["", "all"]];
  options("task", [
    ...DATA.overall.map((set, number) => [meanOf(set, number), `mean over ${set.name}`]),
    ["", "every task"],
    ...distinct(DATA.tables.map((one) => baseOf(one.task))).map((base) => [base, base]),
  ]);
  options("shots", [
    ...all,
    ...distinct(DATA.tables.map((one) => one.num_fewshot)).map((count) => [count, shotsName(count)]),
  ]);
  options("kind", [
    ...all,
    ...distinct(ROWS.map((row) => row.role)).map((role) => [`role:${role}`, ROLES[role] ?? role]),
    ...distinct(ROWS.map((row) => row.method)).map((method) => [`method:${method}`, `method ${method}`]),
  ]);
  options("family", [...all, ...distinct(ROWS.map((row) => row.family)).map((family) => [family, family])]);
  options(
    "x",
    Object.entries(SIZES).map(([value, [text]]) => [value, text.toLowerCase()]),
  );
}

function showFilters() {
  for (const name of FILTERS) {
    FORM.elements[name].value = state[name];
    if (FORM.elements[name].selectedIndex === -1) changed({ [name]: (FORM.elements[name].value = DEFAULTS[name]) });
  }
  FORM.elements.shots.disabled = Boolean(setOf(state.task));
}

function refresh() {
  showFilters();
  refreshTable();
  describe();
}

// Another size: the smaller one within a rank may be another student.
function reorder() {
  table.replaceData(ROWS.sort(byPlace)).then(refresh);
}

function describe() {
  const rows = ROWS.filter(matches);
  drawSoon();
  answer(rows);
  byElement("count").textContent = `${rows.length.toLocaleString("en")} row${rows.length === 1 ? "" : "s"}`;
  const inView = tablesInView(),
    set = setOf(state.task);
  byElement("about").textContent =
    inView.length === 1
      ? measuredOn(inView[0])
      : set
        ? `Retention above the floor, averaged over ${set.tasks.join(", ")}, and task by task. Only who was measured on all of them has a mean and a rank.`
        : "";
  const notes = (set ? set.tables.map((number) => DATA.tables[number]) : inView).flatMap((one) =>
    one.notes.map((note) => el("li", {}, `${one.task}: ${note}`)),
  );
  byElement("notes").replaceChildren(...notes);
}

// Thousands of points take a moment to draw: neither the table nor typing waits for them.
let drawing;
function drawSoon() {
  clearTimeout(drawing);
  drawing = setTimeout(() => {
    shotsPlot(
      ROWS.filter(
        (row) =>
          row.table != null &&
          (setOf(state.task)?.tables.includes(row.table) ?? ["", row.base].includes(state.task)) &&
          matchesModel(row),
      ),
    );
    sizePlot(ROWS.filter(matches)); // last: it takes the room that the other leaves
  }, 100);
}

function measuredOn(one) {
  const passages = one.passages ? ` about ${one.passages.toLocaleString("en")} passages` : "";
  const floor = one.floor ? ` The floor always answers “${one.floor.answer}”.` : "";
  return `${shotsName(one.num_fewshot)}, ${one.questions.toLocaleString("en")} questions${passages}, split ${one.split}, task version ${one.task_version}.${floor}`;
}

// Of the rows shown, each table's smallest student of the best rank.
function answer(rows) {
  const ranked = Map.groupBy(
    rows.filter((row) => row.rank != null),
    (row) => row.table,
  );
  const said = [...ranked.values()].slice(0, 4).map((students) => {
    const [best, ...others] = [...students].sort(byPlace);
    const equal = others.filter((row) => row.rank === best.rank).length;
    const link = el("button", { type: "button", className: "link" }, best.name);
    link.addEventListener("click", () => openDrawer(best.id));
    const [title, written] = SIZES[state.x];
    const size = [
      `${millions(best.parameters)} parameters`,
      fewer(best),
      state.x === "parameters" ? "" : `${title.toLowerCase()}: ${written(best[state.x])}`,
    ]
      .filter(Boolean)
      .join(", ");
    return el(
      "p",
      {},
      `${best.task}: `,
      link,
      ` (${size}) keeps `,
      el("b", {}, aboveOf(best)),
      " of its teacher’s lead over the floor",
      equal ? `; it shares rank ${best.rank} with ${equal} other${equal > 1 ? "s" : ""}.` : ".",
    );
  });
  byElement("answer").replaceChildren(...(said.length ? [el("h2", {}, "Best of what is shown"), ...said] : []));
}

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  const dark =
    getComputedStyle(document.documentElement).colorScheme === "dark" ||
    (!document.documentElement.dataset.theme && window.matchMedia("(prefers-color-scheme: dark)").matches);
  document.querySelector("#theme span").textContent = dark ? "Light" : "Dark";
  return dark;
}

function remembered(value) {
  try {
    return value ? localStorage.setItem("kd-bench-theme", value) : localStorage.getItem("kd-bench-theme");
  } catch {
    return null; // a browser may keep storage from files
  }
}

function start() {
  theme(remembered());
  byElement("theme").addEventListener("click", () => {
    const name = theme() ? "light" : "dark";
    theme(name);
    remembered(name);
    if (DATA.tables.length) drawSoon();
  });
  byElement(DATA.tables.length ? "content" : "empty").hidden = false;
  if (!DATA.tables.length) {
    window.ready = performance.now();
    return;
  }
  readHash();
  fillFilters();
  showFilters();
  FORM.addEventListener("submit", (event) => event.preventDefault());
  for (const kind of ["input", "change"]) {
    document.addEventListener(kind, ({ target }) => {
      if (target.form !== FORM || state[target.name] === target.value) return;
      changed({ [target.name]: target.value });
      target.name === "x" ? reorder() : refresh();
    });
  }
  FORM.addEventListener("reset", (event) => {
    event.preventDefault();
    changed({ ...DEFAULTS, sort: state.sort });
    reorder();
  });
  byElement("download").addEventListener("click", downloadCsv);
  window.addEventListener("hashchange", () => location.reload());
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (theme(), drawSoon()));
  makeTable(() => {
    describe();
    window.ready = performance.now();
    if (state.open) openDrawer(state.open);
  });
}

start();
