"use strict";
// The table of rows: columns, sorting, the keyboard, and the CSV of what is shown.

const NARROW = window.matchMedia("(max-width: 640px)");
let table;

function undefinedLast(a, b, rowA, rowB, column, direction) {
  const [noA, noB] = [a, b].map((value) => value == null || value === ""); // Tabulator makes undefined ""
  if (noA || noB) return noA && noB ? 0 : noA === (direction === "asc") ? 1 : -1;
  const order = typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return order || byPlace(rowA.getData(), rowB.getData()) * (direction === "asc" ? 1 : -1);
}

// Elements, not strings: Tabulator would read a string as HTML.
const cellOf = (text) => (cell) => text(cell.getData());
const words = (text) => (cell) => el("span", {}, text(cell.getData()));
const breakable = (text) => el("span", {}, ...text.split(/(?<=[/_-])/).flatMap((part) => [part, el("wbr")]));
const twoLines = (text, aside) => (aside ? el("span", {}, text, el("small", {}, aside)) : el("span", {}, text));

function keptCell(value, low, high) {
  return (cell) => {
    const row = cell.getData();
    if (row[value] == null) return el("span", {}, MISSING);
    // The teacher keeps all of itself by definition: there is nothing to be unsure of.
    const bounds = row.role === "teacher" ? "" : interval(row[low], row[high]);
    const made = el("span", { className: "kept" }, `${percent(row[value], 0)} %`, el("small", {}, bounds));
    if (value === "above" && bounds) made.append(intervalBar(row));
    return made;
  };
}

function intervalBar(row) {
  const place = (share) => 100 * Math.min(1, Math.max(0, share));
  const line = el("i"),
    point = el("b");
  line.style.left = `${place(row.aboveLow)}%`;
  line.style.width = `${place(row.aboveHigh) - place(row.aboveLow)}%`;
  point.style.left = `${place(row.above)}%`;
  return el("span", { className: "interval", ariaHidden: "true" }, line, point);
}

function columns() {
  const shown = columnsShown();
  const numbers = { hozAlign: "right", headerHozAlign: "right", headerSortStartingDir: "desc" };
  const all = [
    {
      title: "Rank",
      field: "rank",
      minWidth: NARROW.matches ? 68 : 70,
      widthGrow: 0.2,
      frozen: true,
      hozAlign: "center",
      formatter: words((row) =>
        row.rank == null ? (isStudent(row) ? MISSING : "") : `${row.rank}${row.efficient[state.x] ? " ◆" : ""}`,
      ),
    },
    {
      title: "Model",
      field: "name",
      minWidth: NARROW.matches ? 112 : 150,
      widthGrow: 1.5,
      frozen: true,
      cssClass: "wraps",
      formatter: cellOf((row) => breakable(row.name)),
    },
    {
      title: "Role",
      field: "role",
      minWidth: 120,
      cssClass: "wraps",
      formatter: cellOf((row) =>
        twoLines(ROLES[row.role] ?? row.role, row.method && row.method !== row.role ? row.method : ""),
      ),
    },
    { title: "Task", field: "task", minWidth: 150, cssClass: "wraps", formatter: words((row) => row.task) },
    { title: "Prompt", field: "shots", minWidth: 88, formatter: words((row) => shotsName(row.shots)) },
    {
      title: "Above floor",
      field: "above",
      minWidth: 128,
      widthGrow: 1.2,
      ...numbers,
      formatter: keptCell("above", "aboveLow", "aboveHigh"),
    },
    {
      title: "Parameters",
      field: "parameters",
      minWidth: 114,
      ...numbers,
      headerSortStartingDir: "asc",
      formatter: cellOf((row) => twoLines(millions(row.parameters), fewer(row))),
    },
    ...Object.entries(SIZES)
      .filter(([axis]) => axis !== "parameters")
      .map(([axis, [title, written]]) => ({
        title,
        field: axis,
        minWidth: 120,
        ...numbers,
        headerSortStartingDir: axis === SPEED ? "desc" : "asc",
        formatter: words((row) => written(row[axis])),
      })),
    ...DATA.tables.map((one, i) => ({
      title: one.task,
      field: `above${i}`,
      minWidth: 155,
      ...numbers,
      formatter: words((row) => (row[`above${i}`] == null ? MISSING : `${percent(row[`above${i}`], 0)} %`)),
    })),
    {
      title: HEADLINE ? metricName(HEADLINE) : "Score",
      field: "score",
      minWidth: 100,
      ...numbers,
      formatter: scoreCell(headlineMeasure, headlineName),
    },
    {
      title: "Of teacher",
      field: "kept",
      minWidth: 116,
      ...numbers,
      formatter: keptCell("kept", "keptLow", "keptHigh"),
    },
    { title: "Gap closed", field: "gap", minWidth: 116, ...numbers, formatter: keptCell("gap", "gapLow", "gapHigh") },
    ...OTHER_METRICS.map((metric, i) => ({
      title: metricName(metric),
      field: `metric${i}`,
      minWidth: 110,
      ...numbers,
      formatter: scoreCell((row) => row.raw.scores?.[metric]),
    })),
  ];
  return all.map((column) => ({ ...column, visible: shown(column.field) }));
}

function headlineMeasure(row) {
  return row.table == null ? null : row.raw.scores?.[DATA.tables[row.table].headline];
}

function headlineName(row) {
  return HEADLINE || row.score == null ? "" : ` ${metricName(DATA.tables[row.table].headline)}`;
}

function headlineScore(row) {
  return scored(headlineMeasure(row)) + headlineName(row);
}

function scoreCell(measureOf, after = () => "") {
  return cellOf((row) => {
    const measure = measureOf(row);
    return twoLines(withError(measure) + after(row), spread(measure));
  });
}

// What would be the same in every row, or stand in none, is left out.
function columnsShown() {
  const inView = tablesInView();
  const mean = setOf(state.task);
  return (field) => {
    if (/^above\d/.test(field)) return Boolean(mean?.tables.includes(Number(field.slice(5))));
    if (field in SIZES) return field === "parameters" || field === state.x;
    if (/^metric\d/.test(field)) return inView.some((one) => one.metrics.includes(OTHER_METRICS[field.slice(6)]));
    if (["score", "kept", "gap"].includes(field)) return !mean;
    if (["task", "shots"].includes(field)) return inView.length > 1;
    return field !== "role" || !NARROW.matches;
  };
}

function makeTable(onReady) {
  table = new Tabulator("#table", {
    data: ROWS.sort(byPlace),
    index: "id",
    columns: columns(),
    columnDefaults: {
      sorter: undefinedLast,
      headerWordWrap: true,
      resizable: false,
      titleFormatter: (cell) => breakable(cell.getValue()),
    },
    layout: "fitColumns",
    maxHeight: "75vh",
    headerSortTristate: true,
    initialFilter: [{ field: matches }],
    initialSort: sorting(),
    placeholder: "No row matches these filters.",
    rowFormatter: (row) => {
      row.getElement().classList.add(`role-${isStudent(row.getData()) ? "student" : "reference"}`);
      row.getElement().tabIndex = -1;
    },
  });
  table.element.setAttribute("aria-label", "Leaderboard: a row for each model and task");
  table.on("rowClick", (_, row) => openDrawer(row.getData().id));
  table.on("dataSorted", (sorters) => changed({ sort: sorters.map(({ field, dir }) => `${field}:${dir}`).join() }));
  table.on("tableBuilt", () => {
    reachByKeyboard();
    onReady();
  });
}

function sorting() {
  const [column, dir] = state.sort.split(":");
  return columns().some(({ field }) => field === column) ? [{ column, dir: dir === "desc" ? "desc" : "asc" }] : [];
}

function refreshTable() {
  const shown = columnsShown();
  table.blockRedraw();
  for (const column of table.getColumns()) {
    const want = shown(column.getField());
    if (want !== column.isVisible()) want ? column.show() : column.hide();
  }
  table.setFilter(matches);
  table.restoreRedraw();
}

function reachByKeyboard() {
  for (const column of table.getColumns()) column.getElement().tabIndex = 0;
  table.element
    .querySelector(".tabulator-tableholder")
    .setAttribute("aria-label", "Rows: arrow keys move, Enter opens");
  table.element.addEventListener("keydown", (event) => {
    const header = event.target.closest(".tabulator-col");
    if (header && ["Enter", " "].includes(event.key)) {
      event.preventDefault();
      header.click();
      return;
    }
    const step = { ArrowDown: "getNextRow", ArrowUp: "getPrevRow" }[event.key];
    const rows = table.getRows("visible");
    const row = rows.find((some) => some.getElement() === event.target);
    if (header || !(step || (row && event.key === "Enter"))) return;
    event.preventDefault();
    if (event.key === "Enter") return openDrawer(row.getData().id);
    const next = row ? row[step]() : rows[0];
    if (next) table.scrollToRow(next, "nearest", false).then(() => next.getElement().focus({ preventScroll: true }));
  });
}

// Spreadsheets run what begins like a formula: such text gets a '.
function quoted(value) {
  const text = typeof value === "string" ? value.replace(/^[=+\-@\t\r]/, "'$&") : String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function asCsv(rows) {
  const names = {
    rank: "rank",
    run: "run",
    model: "model",
    role: "role",
    method: "method",
    family: "family",
    task: "task",
    shots: "num_fewshot",
    ...Object.fromEntries(Object.keys(SIZES).map((axis) => [axis, axis])),
    above: "above_floor",
    aboveLow: "above_floor_low",
    aboveHigh: "above_floor_high",
    kept: "of_teacher",
    keptLow: "of_teacher_low",
    keptHigh: "of_teacher_high",
    gap: "gap_closed",
    gapLow: "gap_closed_low",
    gapHigh: "gap_closed_high",
    score: HEADLINE ?? "score",
    stderr: `${HEADLINE ?? "score"}_stderr`,
  };
  OTHER_METRICS.forEach((metric, i) => (names[`metric${i}`] = metric));
  const lines = rows.map((row) =>
    [...Object.keys(names).map((field) => row[field]), row.efficient[state.x]].map(quoted).join(","),
  );
  return [[...Object.values(names), `efficient_${state.x}`].map(quoted).join(","), ...lines].join("\n") + "\n";
}

function downloadCsv() {
  const rows = table.getData("active");
  const link = el("a", {
    download: "leaderboard.csv",
    href: URL.createObjectURL(new Blob([asCsv(rows)], { type: "text/csv" })),
  });
  link.click();
  URL.revokeObjectURL(link.href);
}
