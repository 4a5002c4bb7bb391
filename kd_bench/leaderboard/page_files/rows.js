"use strict";
// The data as the page shows it: a flat row for each model in each table, and numbers as text.

const DATA = JSON.parse(document.getElementById("data").textContent);
const MISSING = "–";
const MEAN = "mean"; // begins the pseudo-tasks: a student over a set of tasks
const ROLES = { distilled: "distilled", sft: "fine-tuned", undistilled: "undistilled" };
const METRICS = {
  f1: "F1",
  em: "EM",
  rougeL: "ROUGE-L",
  has_ans_f1: "F1, answerable",
  has_ans_em: "EM, answerable",
  no_ans_em: "EM, unanswerable",
};
const SHOTS = { 0: "zero-shot", 1: "one-shot" };
const SIZES = {
  parameters: ["Parameters", millions],
  parameters_without_embeddings: ["Parameters without embeddings", millions],
  bytes_on_disk: ["Bytes on disk", bytes],
  evaluate_peak_memory_bytes: ["Peak memory", bytes],
  generated_tokens_per_second: ["Tokens a second", speed],
};
const ON_A_MACHINE = ["evaluate_peak_memory_bytes", "generated_tokens_per_second"]; // comparable on the same one only
const SPEED = "generated_tokens_per_second"; // the one where more is better

function percent(share, digits = 1) {
  if (share == null) return MISSING;
  const text = (100 * share).toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

function interval(low, high) {
  return low == null ? "" : ` [${percent(low, 0)}, ${percent(high, 0)}]`;
}

function kept(estimate) {
  return estimate.value == null ? MISSING : `${percent(estimate.value, 0)} %${interval(estimate.low, estimate.high)}`;
}

function withError(measure) {
  if (!measure) return MISSING;
  return percent(measure.value) + (measure.stderr == null ? "" : ` ± ${percent(measure.stderr)}`);
}

function spread(measure) {
  return measure?.std == null ? "" : `sd ${percent(measure.std)}`;
}

function scored(measure) {
  const between = spread(measure);
  return withError(measure) + (between && ` (${between})`);
}

function millions(number) {
  if (number == null) return MISSING;
  if (number < 1e6) return number.toLocaleString("en");
  return number >= 1e9 ? `${(number / 1e9).toFixed(2)} B` : `${(number / 1e6).toFixed(1)} M`;
}

function bytes(number) {
  if (number == null) return MISSING;
  if (number < 1e6) return `${(number / 1e3).toFixed(0)} kB`;
  return number >= 1e9 ? `${(number / 1e9).toFixed(1)} GB` : `${(number / 1e6).toFixed(0)} MB`;
}

function speed(number) {
  return number == null ? MISSING : number.toLocaleString("en", { maximumFractionDigits: number < 10 ? 1 : 0 });
}

const shotsName = (count) => SHOTS[count] ?? `${count}-shot`;
const metricName = (metric) => METRICS[metric] ?? metric.replaceAll("_", " ");
const meanOf = (set, number) => (number ? `${MEAN}:${set.name}` : MEAN); // the first set is the one to begin with
const setOf = (task) => DATA.overall.find((set, number) => meanOf(set, number) === task);
const baseOf = (task) => task.replace(/_(zero|one)shot$/, "");
const isStudent = (row) => row.role in ROLES;
const modelKey = (row) => JSON.stringify([row.run, row.model]);

const byModel = new Map(); // a model's rows in all tables, in their order
const byId = new Map();
const [ROWS, HEADLINE, OTHER_METRICS] = flatten();

function flatten() {
  const severalRuns = new Set(DATA.tables.flatMap((table) => table.rows.map((row) => row.run))).size > 1;
  const headlines = new Set(DATA.tables.map((table) => table.headline));
  const headline = headlines.size === 1 ? [...headlines][0] : null;
  const metrics = [...new Set(DATA.tables.flatMap((table) => table.metrics))].filter((metric) => metric !== headline);
  const rows = [];

  const add = (row) => {
    while (byId.has(row.id)) row.id += "~";
    row.name = severalRuns && row.run ? `${row.run}/${row.model}` : row.model;
    row.words = [row.name, row.run, row.task, row.role, ROLES[row.role], row.method, row.family, row.source]
      .join(" ")
      .toLowerCase();
    byId.set(row.id, row);
    rows.push(row);
    return row;
  };
  const estimates = (raw) => ({
    above: raw.above_floor.value,
    aboveLow: raw.above_floor.low,
    aboveHigh: raw.above_floor.high,
    kept: raw.of_teacher?.value ?? null,
    keptLow: raw.of_teacher?.low ?? null,
    keptHigh: raw.of_teacher?.high ?? null,
    gap: raw.gap_closed?.value ?? null,
    gapLow: raw.gap_closed?.low ?? null,
    gapHigh: raw.gap_closed?.high ?? null,
  });
  const scores = (table, found) => {
    const own = { score: found[table.headline]?.value ?? null, stderr: found[table.headline]?.stderr ?? null };
    metrics.forEach((metric, i) => (own[`metric${i}`] = found[metric]?.value ?? null));
    return own;
  };

  DATA.tables.forEach((table, number) => {
    const place = { place: number, table: number, task: table.task, base: baseOf(table.task), shots: table.num_fewshot };
    if (table.floor) {
      const measures = Object.fromEntries(Object.entries(table.floor.scores).map(([name, value]) => [name, { value }]));
      add({
        ...place,
        id: `${table.task}/floor`,
        run: "",
        model: `floor: “${table.floor.answer}”`,
        role: "floor",
        efficient: {},
        ...scores(table, measures),
        raw: { scores: measures },
      });
    }
    const own = table.rows.map((raw) => ({
      ...place,
      ...estimates(raw),
      ...scores(table, raw.scores),
      raw,
      id: [table.task, raw.run, raw.model].join("/"),
      run: raw.run,
      model: raw.model,
      teacher: raw.teacher,
      role: raw.role,
      method: raw.method,
      family: raw.family,
      source: raw.source,
      rank: raw.rank,
      efficient: raw.efficient,
      machine: raw.machine,
      ...sizesOf(raw),
    }));
    for (const row of own) {
      const key = modelKey(add(row));
      byModel.set(key, [...(byModel.get(key) ?? []), row]);
    }
  });
  DATA.overall.forEach((set, number) => {
    for (const raw of [...wholeTeachers(set), ...set.students]) {
      const own = byModel.get(modelKey(raw));
      const row = {
        ...own[0],
        ...estimates(raw),
        ...sizesOf(raw),
        raw,
        id: [meanOf(set, number), raw.run, raw.model].join("/"),
        place: DATA.tables.length + number,
        table: null,
        task: `Mean over ${set.name}`,
        base: meanOf(set, number),
        shots: null,
        rank: raw.rank,
        efficient: raw.efficient,
        score: null,
        stderr: null,
      };
      metrics.forEach((_, i) => (row[`metric${i}`] = null));
      for (const one of own) row[`above${one.table}`] = one.above;
      add(row);
    }
  });
  return [rows, headline, metrics];
}

function sizesOf(raw) {
  return Object.fromEntries(Object.keys(SIZES).map((axis) => [axis, raw[axis] ?? null]));
}

// A teacher keeps all of itself on each task, so on the mean of them too.
function wholeTeachers(set) {
  return [...byModel.values()].flatMap((rows) => {
    const own = rows.filter((row) => set.tables.includes(row.table));
    if (rows[0].role !== "teacher" || own.length < set.tables.length || own.some((row) => row.above == null)) return [];
    const speeds = own.map((row) => row[SPEED]);
    return {
      ...own[0].raw,
      [SPEED]: speeds.includes(null) ? null : speeds.reduce((a, b) => a + b) / speeds.length,
      efficient: {},
      missing: [],
    };
  });
}

// Within a table what to compare with stands first, then the students by rank, the smaller in the chosen size first, then
// what has no rank.
function byPlace(a, b) {
  const size = (row) => (row[state.x] == null ? Infinity : state.x === SPEED ? -row[SPEED] : row[state.x]);
  const group = ({ role, rank }) =>
    role === "floor" ? 0 : role === "teacher" ? 1 : rank != null ? 2 : role === "other" ? 4 : 3;
  return (
    a.place - b.place ||
    group(a) - group(b) ||
    (a.rank ?? 0) - (b.rank ?? 0) ||
    (size(a) === size(b) ? 0 : size(a) - size(b)) ||
    (b.above ?? -1) - (a.above ?? -1)
  );
}

const teacherOf = (row) => byModel.get(modelKey({ run: row.run, model: row.teacher })) ?? [];

function fewer(row) {
  const size = teacherOf(row)[0]?.parameters;
  if (!isStudent(row) || !size || row.parameters == null) return "";
  const change = row.parameters / size - 1;
  return `${change > 0 ? "+" : ""}${percent(change)} %`;
}

function el(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
