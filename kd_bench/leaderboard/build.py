"""From a folder of records to LEADERBOARD.md."""

from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.leaderboard.markdown import render
from kd_bench.leaderboard.record import read_results, write_atomically


def build(results_dir: str | Path, output: str | Path, check: bool = False) -> list[str]:
    """Writes what the records in `results_dir` give to `output`, and returns the problems with records, which were left
    out.

    With `check` nothing is written, and a file that is not what the records give is a problem too.
    Raises UserError if there is no such folder, or `output` can't be written.
    """
    results, problems = read_results(results_dir)
    text, output = render(results), Path(output)
    if check:
        if not output.is_file() or output.read_bytes() != text.encode():
            problems.append(f"{output}: is not what the records in {results_dir} give; run `kd-bench leaderboard`")
        return problems
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, text)
    except OSError as error:
        raise UserError(str(output), f"can't be written: {error.strerror or error}") from None
    return problems
