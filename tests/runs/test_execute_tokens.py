"""Stages that run at the same time and need the same tokens."""

from datasets import Dataset, load_from_disk

from kd_bench.runs.tokens import _write


def test_the_first_to_have_written_the_tokens_stays_and_nothing_else_is_left(tmp_path):
    folder = tmp_path / "tokens" / "0123"
    _write(Dataset.from_dict({"prompt": [[1, 2]]}), folder)
    read = load_from_disk(str(folder))
    _write(
        Dataset.from_dict({"prompt": [[3, 4]]}), folder
    )  # what a second process does that began before the first ended
    assert load_from_disk(str(folder))["prompt"][0] == read["prompt"][0] == [1, 2]
    assert [path.name for path in folder.parent.iterdir()] == ["0123"]
