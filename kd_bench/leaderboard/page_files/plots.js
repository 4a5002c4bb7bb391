"use strict";
// The two plots. What they show stands in the table too.

const MOST_BARS = 150; // more intervals hide the points
const MOST_NAMES = 14;
const SYMBOLS = { distilled: "circle", sft: "square", undistilled: "triangle-up", teacher: "star" };

// Plotly reads <b>, <a> and entities in any text: a record's text has none of them.
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function colour(name) {
  const probe = document.body.appendChild(el("i"));
  probe.style.color = `var(--${name})`; // a custom property itself would come back unresolved
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function layout(xaxis, yaxis, more = {}) {
  const axis = { gridcolor: colour("line"), zeroline: false, linecolor: colour("line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("text"), family: getComputedStyle(document.body).fontFamily, size: 12 },
    margin: { l: 50, r: 14, t: 30, b: 44 },
    hovermode: "closest",
    showlegend: true,
    hoverlabel: {
      bgcolor: colour("raised"),
      bordercolor: colour("line"),
      font: { color: colour("text") },
      align: "left",
    },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemclick: false, itemdoubleclick: false },
    // On a touch screen a drag has to scroll the page.
    dragmode: window.matchMedia("(pointer: coarse)").matches ? false : "zoom",
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
    ...more,
  };
}

const CONFIG = {
  displaylogo: false,
  responsive: true,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
};

function draw(id, traces, shape) {
  const div = document.getElementById(id);
  const isNew = !div.data;
  Plotly.react(div, traces, shape, CONFIG);
  if (div.clientWidth !== div._fullLayout.width) Plotly.Plots.resize(div); // the other plot came or went
  if (isNew) div.on("plotly_click", ({ points }) => points[0].customdata && openDrawer(points[0].customdata));
}

// One trace a role: `points` are {row, x, y, xLow, xHigh, yLow, yHigh, hover}.
function byRole(points) {
  const bars = points.length <= MOST_BARS;
  const around = (of, axis) => ({
    type: "data",
    symmetric: false,
    thickness: 1.2,
    width: 3,
    array: of.map((p) => (p[`${axis}High`] == null ? 0 : p[`${axis}High`] - p[axis])),
    arrayminus: of.map((p) => (p[`${axis}Low`] == null ? 0 : p[axis] - p[`${axis}Low`])),
  });
  return [...Object.keys(ROLES), "teacher"].flatMap((role) => {
    const of = points.filter((p) => p.row.role === role);
    if (!of.length) return [];
    return {
      name: ROLES[role] ?? role,
      mode: "markers",
      type: "scatter",
      x: of.map((p) => p.x),
      y: of.map((p) => p.y),
      customdata: of.map((p) => p.row.id),
      hovertext: of.map((p) => p.hover.map(plain).join("<br>")),
      hoverinfo: "text",
      marker: {
        color: colour(role),
        symbol: of.map((p) => SYMBOLS[role] + (p.hollow ? "-open" : "")),
        size: 9,
        line: { width: 2, color: colour(role) },
      },
      ...(bars ? { error_x: around(of, "x"), error_y: around(of, "y") } : {}),
    };
  });
}

// After all bars, so that none crosses a name. With each name on several points, none is of use. The run stands with
// it only where two runs have such a model: it is long, and hovering tells it.
function namesOf(points, side) {
  const students = points.filter((p) => isStudent(p.row));
  const names = new Set(students.map((p) => p.row.name));
  if (names.size < students.length || names.size > MOST_NAMES) return [];
  const models = students.map((p) => p.row.model);
  const shown = ({ row }) => (models.indexOf(row.model) === models.lastIndexOf(row.model) ? row.model : row.name);
  return {
    mode: "text",
    type: "scatter",
    hoverinfo: "skip",
    showlegend: false,
    textposition: students.map(({ y }) => {
      const near = students.map((other) => other.y - y).filter((gap) => gap && Math.abs(gap) < 0.08);
      return near.some((gap) => gap > 0) ? "bottom right" : near.length ? "top right" : side;
    }),
    x: students.map((p) => p.x),
    y: students.map((p) => p.y),
    text: students.map((p) => `  ${plain(shown(p))}`),
    textfont: {
      size: 11,
      color: colour("text"),
      shadow: Array(4)
        .fill(`0 0 3px ${colour("raised")}`)
        .join(", "),
    },
  };
}

const hoverOf = (row) => [
  row.name,
  row.task,
  `${millions(row.parameters)} parameters ${fewer(row)}`,
  `rank ${row.rank ?? MISSING}${row.efficient[state.x] ? " ◆" : ""}`,
];
const aboveOf = (row) => kept({ value: row.above, low: row.aboveLow, high: row.aboveHigh });

function sizePlot(rows) {
  const [title, written] = SIZES[state.x];
  const onMachine = ON_A_MACHINE.includes(state.x);
  const teachers = new Map(
    rows.filter((row) => row.role === "teacher").map((row) => [`${modelKey(row)} ${row[state.x]}`, row]),
  );
  const plotted = [...rows.filter(isStudent), ...teachers.values()].filter(
    (row) => row.above != null && row[state.x] > 0,
  );
  const unmeasured = rows.filter((row) => isStudent(row) && row.above != null && row[state.x] == null).length;
  const bothPrompts = new Set(plotted.map((row) => row.shots > 0)).size > 1;
  const points = plotted.map((row) => ({
    row,
    x: row[state.x],
    y: row.above,
    hollow: bothPrompts && row.shots > 0,
    ...(isStudent(row) ? { yLow: row.aboveLow, yHigh: row.aboveHigh } : {}),
    hover: [
      ...hoverOf(row),
      ...(state.x === "parameters" ? [] : [`${title}: ${written(row[state.x])}${onMachine ? ` on ${row.machine}` : ""}`]),
      `Above floor: ${aboveOf(row)}`,
    ],
  }));
  beside(points);
  const best = new Map();
  for (const p of points.filter((p) => p.row.efficient[state.x])) {
    const key = JSON.stringify([p.row.base, p.row.table, onMachine && p.row.machine]);
    best.set(key, [...(best.get(key) ?? []), p]);
  }
  const lines = [...best.values()].map((of, i) => {
    of.sort((a, b) => a.x - b.x);
    return {
      name: "◆ efficient",
      showlegend: i === 0,
      mode: "lines+markers",
      type: "scatter",
      hoverinfo: "skip",
      x: of.map((p) => p.x),
      y: of.map((p) => p.y),
      line: { color: colour("accent"), width: 1.2, dash: "dot" },
      marker: { symbol: "diamond-open", size: 18, color: colour("accent"), line: { width: 1.6 } },
    };
  });
  const low = Math.min(0, ...points.map((p) => p.yLow ?? p.y)),
    high = Math.max(1, ...points.map((p) => p.yHigh ?? p.y));
  const [ticks, range] = logTicks(points.map((p) => p.x));
  const reference = (y, dash) => ({
    type: "line",
    xref: "paper",
    x0: 0,
    x1: 1,
    y0: y,
    y1: y,
    line: { color: colour("muted"), width: 1.5, dash },
    layer: "below",
  });
  const said = (y, text) => ({
    text,
    xref: "paper",
    x: 0.005,
    xanchor: "left",
    y,
    yanchor: "bottom",
    showarrow: false,
    font: { size: 11, color: colour("muted") },
  });
  draw(
    "size-plot",
    [...lines, ...byRole(points), namesOf(points, "middle right")].flat(),
    layout(
      {
        title: { text: `${title} (log)` },
        type: "log",
        range,
        tickvals: ticks,
        ticktext: ticks.map((tick) => written(tick).replace(/\.0+(?= )/, "")),
      },
      { tickformat: ".0%", range: [Math.max(-1, low - 0.06), Math.min(2, high + 0.1)] },
      { shapes: [reference(0, "dash"), reference(1, "dash")], annotations: [said(0, "floor"), said(1, "teacher")] },
    ),
  );
  document.getElementById("size-note").textContent = [
    "Bars: 95 % intervals over passages. Click a point for all of it.",
    points.length > MOST_BARS ? "So many bars would hide the points: filter to see them." : "",
    bothPrompts ? "Hollow points: with demonstrations." : "",
    points.some((p) => p.moved) ? "Students of equal size stand side by side." : "",
    unmeasured ? `Without this size, and not shown: ${unmeasured}.` : "",
    onMachine ? "It depends on the machine: ◆ compares only students that were measured on the same one." : "",
  ]
    .filter(Boolean)
    .join(" ");
}

// Models of equal size would hide each other's bars.
function beside(points) {
  const logs = points.map((p) => Math.log(p.x));
  const step = 0.035 * Math.max(0.15, Math.max(...logs) - Math.min(...logs));
  const groups = new Map();
  for (const p of points) groups.set(p.x, [...(groups.get(p.x) ?? []), p]);
  for (const group of groups.values()) {
    if (group.length > 10) continue;
    group.forEach((p, i) => {
      p.moved = group.length > 1;
      p.x *= Math.exp(step * (i - (group.length - 1) / 2));
    });
  }
}

function logTicks(values) {
  if (!values.length) return [[], [0, 1]];
  const margin = Math.max(1.06, (Math.max(...values) / Math.min(...values)) ** 0.08);
  const low = Math.min(...values) / margin,
    high = Math.max(...values) * margin;
  const ticks = [];
  const steps =
    high / low < 3
      ? [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2, 2.5, 3, 4, 5, 6, 7, 8, 9]
      : high / low < 30 && !NARROW.matches
        ? [1, 2, 3, 5]
        : high / low < 300
          ? [1, 3]
          : [1];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    ticks.push(...steps.map((step) => step * 10 ** power).filter((tick) => tick >= low && tick <= high));
  }
  return [ticks, [Math.log10(low), Math.log10(high)]];
}

function shotsPlot(rows) {
  const pairs = new Map();
  for (const row of rows.filter((row) => isStudent(row) && row.above != null && row.shots in SHOTS)) {
    const key = JSON.stringify([row.run, row.model, row.base]);
    pairs.set(key, { ...pairs.get(key), [row.shots]: row });
  }
  const points = [...pairs.values()]
    .filter((pair) => pair[0] && pair[1])
    .map(({ 0: zero, 1: one }) => ({
      row: one,
      x: zero.above,
      xLow: zero.aboveLow,
      xHigh: zero.aboveHigh,
      y: one.above,
      yLow: one.aboveLow,
      yHigh: one.aboveHigh,
      hover: [one.name, one.base, `Zero-shot: ${aboveOf(zero)}`, `One-shot: ${aboveOf(one)}`],
    }));
  document.getElementById("shots-figure").hidden = !points.length;
  if (!points.length) return;
  const ends = points.flatMap((p) => [p.x, p.y, p.xLow ?? p.x, p.yLow ?? p.y, p.xHigh ?? p.x, p.yHigh ?? p.y]);
  const range = [Math.max(-1, Math.min(0, ...ends) - 0.05), Math.min(2, Math.max(1, ...ends) + 0.05)];
  draw(
    "shots-plot",
    [...byRole(points), namesOf(points, "top right")].flat(),
    layout(
      { title: { text: "zero-shot, above floor" }, tickformat: ".0%", range },
      { title: { text: "one-shot, above floor" }, tickformat: ".0%", range },
      {
        shapes: [
          {
            type: "line",
            x0: range[0],
            y0: range[0],
            x1: range[1],
            y1: range[1],
            line: { color: colour("muted"), width: 1, dash: "dash" },
            layer: "below",
          },
        ],
      },
    ),
  );
}
