"""From a folder of records to the leaderboard's files."""

from collections.abc import Collection
from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.leaderboard.export import as_csv, as_data, as_json
from kd_bench.leaderboard.markdown import render
from kd_bench.leaderboard.page import render_page
from kd_bench.leaderboard.places import rankings
from kd_bench.leaderboard.ranking import tables
from kd_bench.leaderboard.record import read_results, write_atomically
from kd_bench.leaderboard.schema import Result
from kd_bench.leaderboard.sizes import DEFAULT, known_axis

DATA = "leaderboard.json"


def files(results: list[Result], output: Path, tasks: Collection[str] = (), axis: str = DEFAULT) -> dict[Path, str]:
    """{path: text} of `output`, the markdown, and of what stands beside it."""
    found = tables(results)  # the bootstrap behind every interval: once for all files
    ranked = rankings(found, tasks, axis)
    data = as_data(results, found, ranked)
    return {
        output: render(results, found, ranked, axis),
        output.with_name("leaderboard.csv"): as_csv(data),
        output.with_name(DATA): as_json(data),
        output.with_name("index.html"): render_page(data),
    }


def build(
    results_dir: str | Path,
    output: str | Path,
    check: bool = False,
    tasks: Collection[str] = (),
    axis: str = DEFAULT,
) -> list[str]:
    """Writes what the records in `results_dir` give to `output` and, beside it, leaderboard.csv, leaderboard.json and
    index.html. Returns the problems with records, which were left out.

    With `check` nothing is written, and a file that is not what the records give is a problem too. tasks, axis: what
    the overall ranking is over (by default all tasks of a run) and the size that LEADERBOARD.md goes by. Raises
    UserError if there is no such folder, task or size, or a file can't be written.
    """
    results, problems = read_results(results_dir)
    output = Path(output)
    made = files(results, output, tasks, known_axis(axis))
    if check:
        for path, text in made.items():
            if not path.is_file() or path.read_bytes() != text.encode():
                problems.append(f"{path}: is not what the records in {results_dir} give; run `kd-bench leaderboard`")
        return problems
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for path, text in made.items():
            write_atomically(path, text)
    except OSError as error:
        raise UserError(str(output), f"can't be written: {error.strerror or error}") from None
    return problems
