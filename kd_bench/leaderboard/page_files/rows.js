"use strict";
// The data as the page shows it: a flat row for each model in each table, and numbers as text.

const DATA = JSON.parse(document.getElementById("data").textContent);
const MISSING = "–";
const MEAN = "mean"; // the pseudo-task: a student over all tasks of its run
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
  body: ["Parameters without embeddings", millions],
  bytes: ["Bytes on disk", bytes],
  speed: ["Generated tokens a second", speed],
};

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

function scored(measure) {
  if (!measure) return MISSING;
  const spread = measure.std == null ? "" : ` (sd ${percent(measure.std)})`;
  return percent(measure.value) + (measure.stderr == null ? "" : ` ± ${percent(measure.stderr)}`) + spread;
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
    const place = { table: number, task: table.task, base: baseOf(table.task), shots: table.num_fewshot };
    if (table.floor) {
      const measures = Object.fromEntries(Object.entries(table.floor.scores).map(([name, value]) => [name, { value }]));
      add({
        ...place,
        id: `${table.task}/floor`,
        run: "",
        model: `floor: “${table.floor.answer}”`,
        role: "floor",
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
      parameters: raw.parameters,
      body: raw.parameters_without_embeddings,
      bytes: raw.bytes_on_disk,
      speed: raw.cost.generated_tokens_per_second,
    }));
    for (const row of own.sort(byPlace)) {
      const key = modelKey(add(row));
      byModel.set(key, [...(byModel.get(key) ?? []), row]);
    }
  });
  for (const raw of [...wholeTeachers(), ...DATA.overall]) {
    const own = byModel.get(modelKey(raw));
    const speeds = own.map((row) => row.speed);
    const row = {
      ...own[0],
      ...estimates(raw),
      raw,
      id: [MEAN, raw.run, raw.model].join("/"),
      table: null,
      task: "Mean over all tasks",
      base: MEAN,
      shots: null,
      rank: raw.rank,
      efficient: raw.efficient,
      score: null,
      stderr: null,
      speed: speeds.includes(null) ? null : speeds.reduce((a, b) => a + b) / speeds.length,
    };
    metrics.forEach((_, i) => (row[`metric${i}`] = null));
    for (const one of own) row[`above${one.table}`] = one.above;
    add(row);
  }
  return [rows, headline, metrics];
}

// A teacher keeps all of itself on each task, so on the mean of them too.
function wholeTeachers() {
  const teachers = [...byModel.values()].filter(
    (own) => own[0].role === "teacher" && own.every((row) => row.above != null),
  );
  return DATA.overall.length
    ? teachers.map(([{ run, model, raw }]) => ({
        run,
        model,
        above_floor: raw.above_floor,
        rank: null,
        efficient: false,
        missing: [],
      }))
    : [];
}

// What to compare with stands first, then the students by rank, the smaller first, then what has no rank.
function byPlace(a, b) {
  const group = (row) => (row.role === "teacher" ? 0 : row.rank != null ? 1 : row.role === "other" ? 3 : 2);
  return (
    group(a) - group(b) ||
    (a.rank ?? 0) - (b.rank ?? 0) ||
    (a.parameters ?? 0) - (b.parameters ?? 0) ||
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
