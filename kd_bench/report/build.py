"""From records to one study's report: report.md, report.html and plots/*.svg."""

from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.leaderboard.escape import escape
from kd_bench.leaderboard.record import read_results, write_atomically
from kd_bench.report import curves, draws, gains, oneshot, ran, rates, retention, scores, sensitivity, validation
from kd_bench.report.draw import Plot
from kd_bench.report.page import render_page
from kd_bench.report.study import Study, find_study

SECTIONS = (ran, scores, gains, rates, validation, draws, retention, oneshot, sensitivity, curves)
INTRO = "Written by `kd-bench report` from the records alone; changes made here are lost."


def files(study: Study) -> dict[str, str]:
    """{path within the report's folder: text}. Pure: the same results give the same bytes."""
    parts: list[str | Plot] = [f"# {escape(study.name)}", INTRO]
    absent = []
    for some in SECTIONS:
        found = some.section(study)
        if isinstance(found, str):
            absent.append(found)
        else:
            parts += found
    if absent:
        parts += ["## Not in this report", "\n".join(f"- {why}" for why in dict.fromkeys(absent))]
    plots = [part for part in parts if isinstance(part, Plot)]
    markdown = "\n\n".join(
        f"![{escape(part.text)}](plots/{part.name}.svg)" if isinstance(part, Plot) else part for part in parts
    )
    return {
        "report.md": markdown + "\n",
        "report.html": render_page(study.name, markdown, plots),
        **{f"plots/{plot.name}.svg": plot.svg for plot in plots},
    }


def build(names: list[str], results_dir: str | Path, output: str | Path, check: bool = False) -> list[str]:
    """Writes the report of each study in `names` to a folder of its name in `output`. Returns the problems with
    records of these studies, which were left out.

    With `check` nothing is written, and a file that is not what the records give, or none of theirs, is a problem too.
    Raises UserError if there is no such folder of records, a study has no records, or a file can't be written.
    """
    results, problems = read_results(results_dir)
    studies = [find_study(name, results, problems, str(results_dir)) for name in dict.fromkeys(names)]
    told = [problem for study in studies for problem in study.left_out]
    for study in studies:
        folder = Path(output) / study.name
        made = {folder / name: text for name, text in files(study).items()}
        old = sorted({*folder.glob("plots/*.svg")} - {*made})
        if check:
            told += [
                f"{path}: is not what the records in {results_dir} give; run `kd-bench report {study.name}`"
                for path, text in made.items()
                if not path.is_file() or path.read_bytes() != text.encode()
            ]
            told += [f"{path}: is no plot of these records; run `kd-bench report {study.name}`" for path in old]
            continue
        try:
            (folder / "plots").mkdir(parents=True, exist_ok=True)
            for path, text in made.items():
                write_atomically(path, text)
            for path in old:
                path.unlink()
        except OSError as error:
            raise UserError(str(folder), f"can't be written: {error.strerror or error}") from None
    return list(dict.fromkeys(told))
