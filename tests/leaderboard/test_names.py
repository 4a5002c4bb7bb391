import pytest

from kd_bench.leaderboard.names import data_set, language, prompt_setting
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("squad_kd_oneshot", ("squad", "en")),
        ("mlqa_kd_de_zeroshot", ("mlqa", "de")),
        ("xquad_kd_en_oneshot", ("xquad", "en")),
        ("my_faq_zeroshot", ("my_faq", None)),
        ("arc_easy", ("arc_easy", None)),
    ],
)
def test_what_a_name_tells(task, expected):
    assert (data_set(task), language(task)) == expected


def test_every_task_here_is_named_so():
    """Each lies in the folder of its data set, and its base is of the language."""
    files = sorted((ROOT / "tasks").glob("*/*shot.yaml"))
    assert files
    for file in files:
        base = file.read_text().splitlines()[0].removeprefix("include: ")
        assert data_set(file.stem) == file.parent.name
        assert language(file.stem) == ("de" if base.endswith("_de") else "en")


def test_prompt_settings():
    assert [prompt_setting(count) for count in (0, 1, 5)] == ["zero-shot", "one-shot", "5-shot"]
