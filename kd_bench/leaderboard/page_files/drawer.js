"use strict";
// All that is known about one row, in a dialog at the side.

const DRAWER = document.getElementById("drawer");

const section = (title, ...children) => el("section", {}, el("h3", {}, title), ...children);
const asText = (value) => (value == null ? MISSING : typeof value === "object" ? JSON.stringify(value) : String(value));

function pairs(entries) {
  const list = el("dl");
  for (const [name, value] of entries)
    list.append(el("dt", {}, name), el("dd", {}, value instanceof Node ? value : asText(value)));
  return list;
}

function grid(headers, lines) {
  const head = el("thead", {}, el("tr", {}, ...headers.map((text) => el("th", { scope: "col" }, text))));
  const body = el("tbody", {}, ...lines.map((cells) => el("tr", {}, ...cells.map((cell) => el("td", {}, cell)))));
  return el("div", { className: "scroll" }, el("table", {}, head, body));
}

function command(text) {
  const code = el("code", {}, text);
  const button = el("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // a browser may keep the clipboard from files
      button.textContent = "Selected: press Ctrl+C";
    }
  });
  return el("div", { className: "command" }, code, button);
}

const shellWord = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);

function openDrawer(id) {
  const row = byId.get(id);
  if (!row) return;
  changed({ open: id });
  table?.deselectRow();
  table?.selectRow(id);
  const close = el("button", { type: "button", className: "close", ariaLabel: "Close" }, "×");
  close.addEventListener("click", () => DRAWER.close());
  const about = [ROLES[row.role] ?? row.role, row.method !== row.role && row.method, row.task]
    .filter(Boolean)
    .join(" · ");
  const parts =
    row.role === "floor"
      ? [scoresOf(row)]
      : [keptOf(row), row.table == null ? "" : scoresOf(row), overTasks(row), ...differences(row), ...origins(row)];
  DRAWER.replaceChildren(
    el("div", { className: "head" }, el("h2", { id: "drawer-title" }, row.name), close),
    el("p", { className: "aside" }, about),
    ...parts,
  );
  if (!DRAWER.open) DRAWER.showModal();
  DRAWER.scrollTop = 0;
}

DRAWER.addEventListener("close", () => {
  table?.deselectRow();
  changed({ open: "" });
});
DRAWER.addEventListener("click", (event) => {
  if (event.target === DRAWER) DRAWER.close(); // the backdrop
});

function keptOf(row) {
  if (!isStudent(row)) return "";
  const entries = [
    ["Rank", row.rank == null ? MISSING : `${row.rank}${row.efficient[state.x] ? ` ◆ efficient by ${SIZES[state.x][0].toLowerCase()}` : ""}`],
    ["Above floor", aboveOf(row)],
  ];
  if (row.table != null)
    entries.push(["Of teacher", kept(row.raw.of_teacher)], ["Gap closed", kept(row.raw.gap_closed)]);
  else if (row.raw.missing.length) entries.push(["Not measured on", row.raw.missing.join(", ")]);
  return section(`What it keeps of ${row.teacher ?? "its teacher"}`, pairs(entries));
}

function scoresOf(row) {
  const { floor, metrics } = DATA.tables[row.table];
  const teacher = teacherOf(row).find((some) => some.table === row.table);
  const names = [...new Set([...metrics, ...Object.keys(row.raw.scores)])].filter((name) => name in row.raw.scores);
  const lines = names.map((name) => [
    metricName(name),
    scored(row.raw.scores[name]),
    percent(floor?.scores[name]),
    scored(teacher?.raw.scores[name]),
  ]);
  const isFloor = row.role === "floor";
  return section(
    "Scores, per cent ± standard error",
    grid(
      ["", isFloor ? "Floor" : "Model", "Floor", "Teacher"].slice(0, isFloor ? 2 : 4),
      isFloor ? lines.map((line) => line.slice(0, 2)) : lines,
    ),
  );
}

function overTasks(row) {
  const own = byModel.get(modelKey(row));
  if (own.length < 2) return "";
  const lines = own.map((one) => {
    const link = el("button", { type: "button", className: "link" }, one.task);
    link.addEventListener("click", () => openDrawer(one.id));
    return [
      one.id === row.id ? el("b", {}, one.task) : link,
      headlineScore(one),
      aboveOf(one),
      String(one.rank ?? MISSING),
    ];
  });
  return section(
    "Task by task",
    grid(["Task", HEADLINE ? metricName(HEADLINE) : "Score", "Above floor", "Rank"], lines),
  );
}

function differences(row) {
  const found = row.raw.differs;
  if (!found) return [];
  const texts = DATA.tables[row.table].texts ?? {};
  const list = (title, count, some) => {
    const lines = some.map((q) => {
      const text = texts[q.id];
      const answers = [
        [`It wrote, ${percent(q.student, 0)} %`, asText(q.student_wrote).trim()],
        [`Teacher, ${percent(q.teacher, 0)} %`, asText(q.teacher_wrote).trim()],
      ];
      if (text) answers.push(["Gold", text.gold.join(" / ") || "(unanswerable)"]);
      return el(
        "li",
        {},
        text ? el("strong", {}, text.question) : el("code", {}, q.id),
        pairs(answers),
        text ? el("details", {}, el("summary", {}, "Passage"), el("p", {}, text.passage)) : "",
      );
    });
    const shown = count > some.length ? `, ${some.length} shown` : "";
    const summary = el(
      "summary",
      {},
      `${title}: ${count.toLocaleString("en")} question${count === 1 ? "" : "s"}${shown}`,
    );
    return count
      ? el(
          "details",
          {},
          summary,
          el("ul", { className: "questions" }, ...lines),
        )
      : el("p", {}, `${title}: none.`);
  };
  const name = (model) => shellWord(row.name === row.model ? model : `${row.run}/${model}`);
  return [
    section(
      "Where it differs from its teacher",
      list("Lost", found.lost_count, found.lost),
      list("Won", found.won_count, found.won),
      el(
        "p",
        { className: "aside" },
        Object.keys(texts).length
          ? "In a terminal, and by kind of question:"
          : "The records hold no questions, passages or gold answers: these stay with the data sets and their licences. Where the data is at hand, this command shows them beside both answers:",
      ),
      command(`kd-bench compare ${name(row.model)} ${name(row.teacher)} --tasks ${shellWord(row.task)}`),
    ),
  ];
}

function origins(row) {
  const { raw } = row.table == null ? byModel.get(modelKey(row))[0] : row;
  const about = [
    ["Parameters", `${millions(row.parameters)} ${fewer(row)}`],
    ["Without embeddings", millions(row.parameters_without_embeddings)],
    ["On disk", bytes(row.bytes_on_disk)],
    ["Layers", raw.layers],
    ["Family", raw.family],
    ["From", raw.source],
    ["Seeds", raw.seeds.join(", ") || MISSING],
    ["Tokens a second", speed(row[SPEED])],
    ["Training", duration(raw.cost.train_seconds)],
    ["Its peak memory", bytes(raw.cost.train_peak_memory_bytes)],
    ["Evaluation", duration(raw.cost.evaluate_seconds)],
    ["Its peak memory", bytes(row.evaluate_peak_memory_bytes)],
  ];
  if (row.table != null) {
    const one = DATA.tables[row.table];
    about.push([
      "Measured on",
      `${one.questions.toLocaleString("en")} questions, split ${one.split} ${one.split_hash ?? "(not verified)"}, task version ${one.task_version}`,
    ]);
    if (raw.trained_on) about.push(["Trained on, declared", raw.trained_on.join(", ")]);
    if (raw.verified) about.push(["Verified", "evaluated again by who took the record in"]);
  }
  const provenance = raw.provenance.map((some) =>
    pairs([
      ["Run", some.run],
      ["Commit", `${some.commit ?? MISSING}${some.dirty ? " with uncommitted changes" : ""}`],
      ["Recipe", some.recipe],
      ["Recipe hash", some.recipe_hash],
      ["Created", some.created],
      [
        "Versions",
        Object.entries(some.versions ?? {})
          .map((pair) => pair.join(" "))
          .join(", ") || MISSING,
      ],
      [
        "Hardware",
        Object.entries(some.hardware ?? {})
          .map(([name, value]) => hardware(name, value))
          .join(", ") || MISSING,
      ],
    ]),
  );
  return [
    raw.reproduce ? section("Make it again", command(raw.reproduce)) : "",
    section("Model and cost", pairs(about)),
    Object.keys(raw.settings).length ? section("Settings", pairs(Object.entries(raw.settings))) : "",
    provenance.length ? section("Provenance", ...provenance) : "",
  ];
}

function hardware(name, value) {
  if (name === "memory_bytes") return `${bytes(value)} memory`;
  if (name === "gpus" && Array.isArray(value)) return value.join(", ") || "no GPU";
  return name === "cpu" ? asText(value) : name === "cores" ? `${asText(value)} cores` : `${name} ${asText(value)}`;
}

function duration(seconds) {
  if (seconds == null) return MISSING;
  if (seconds < 90) return `${seconds.toFixed(0)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
