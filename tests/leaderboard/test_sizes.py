import json

import pytest

from kd_bench.errors import UserError
from kd_bench.leaderboard.record import read_results, write_record
from kd_bench.leaderboard.schema import Cost
from kd_bench.leaderboard.sizes import AXES, efficient_by, known_axis, machine, order, size_class, sizes_of
from tests.conftest import ROOT
from tests.leaderboard.made import result


def measured(**changes):
    return result([1.0, 0.0], **changes)


def test_sizes_of_a_model_and_of_its_measurements():
    some = [
        measured(cost__evaluate_peak_memory_bytes=100, cost__generated_tokens_per_second=10.0),
        measured(cost__evaluate_peak_memory_bytes=300, cost__generated_tokens_per_second=20.0, seed=1),
    ]
    found = sizes_of(some[0].record.model, some)
    assert tuple(found) == tuple(AXES) and list(found.values()) == [750, 500, 4000, 300, 15.0]
    found = sizes_of(some[0].record.model, [*some, measured(seed=2)])
    assert found["evaluate_peak_memory_bytes"] is None and found["generated_tokens_per_second"] == pytest.approx(40 / 3)
    assert list(sizes_of(some[0].record.model, []).values()) == [750, 500, 4000, None, None]


def test_a_machine_is_known_and_one():
    here = measured(provenance__hardware={"cpu": "X", "cores": 2, "gpus": [], "memory_bytes": 8})
    roomier = measured(provenance__hardware={"cpu": "X", "cores": 2, "gpus": [], "memory_bytes": 16})
    other = measured(provenance__hardware={"cpu": "Y", "cores": 2, "gpus": []})
    assert machine([here, roomier]) == "2 cores, X, no GPU"
    assert machine([here, other]) is None and machine([here, measured()]) is None
    assert machine([measured()]) is None and machine([]) is None


def sized(number, speed=None):
    return dict.fromkeys(AXES) | {"parameters": number, "generated_tokens_per_second": speed}


def test_efficient_by_each_size_and_on_each_machine():
    found = efficient_by(
        [
            ("small", 0.5, sized(1, 10.0), "A"),
            ("big", 0.9, sized(3, 5.0), "A"),
            ("slow", 0.4, sized(2, 5.0), "A"),
            ("elsewhere", 0.1, sized(9, 1.0), "B"),
            ("unknown", 0.1, sized(9, 1000.0), None),
            ("unmeasured", 0.8, sized(None), "A"),
        ]
    )
    by = {axis: {name: told[axis] for name, told in found.items()} for axis in AXES}
    assert by["parameters"] == {
        **dict.fromkeys(("slow", "elsewhere", "unknown"), False),
        **dict.fromkeys(("small", "big"), True),
        "unmeasured": None,
    }
    # More tokens a second are better; what has nothing to be compared with is not said to be efficient.
    assert by["generated_tokens_per_second"] == {
        **{"small": True, "big": True, "slow": False},
        **dict.fromkeys(("elsewhere", "unknown", "unmeasured")),
    }
    assert set(by["bytes_on_disk"].values()) == {None}


def test_the_better_size_first_and_the_unknown_last():
    assert sorted([None, 3, 1], key=lambda value: order("parameters", value)) == [1, 3, None]
    assert sorted([None, 3, 1], key=lambda value: order("generated_tokens_per_second", value)) == [3, 1, None]


@pytest.mark.parametrize(
    ("axis", "value", "expected"),
    [
        ("parameters", 49_999_999, (0, "under 50 M")),
        ("parameters", 113_274_432, (1, "50 M to 125 M")),
        ("parameters", 125_000_000, (2, "125 M to 300 M")),
        ("parameters", 1_540_000_000, (4, "700 M to 2 B")),
        ("parameters", 32e9, (8, "16 B and more")),
        ("bytes_on_disk", 453_122_056, (1, "250 MB to 500 MB")),
        ("generated_tokens_per_second", 55.0, (2, "30 to 100")),
    ],
)
def test_size_classes(axis, value, expected):
    assert size_class(axis, value) == expected


def test_an_unknown_size_is_refused_with_those_there_are():
    assert known_axis("bytes_on_disk") == "bytes_on_disk"
    with pytest.raises(UserError, match=r"'weight' is no size; there are parameters, .*generated_tokens_per_second"):
        known_axis("weight")


def test_records_without_peak_memory_are_written_back_byte_for_byte(tmp_path):
    folder = ROOT / "leaderboard" / "results"
    results, problems = read_results(folder)
    assert results and problems == []
    for some in results:
        path = write_record(tmp_path, *some)
        assert path.read_bytes() == (folder / path.name).read_bytes()
    assert "evaluate_peak_memory_bytes" not in Cost(train_seconds=1.0).model_dump()
    with_it = json.loads(write_record(tmp_path, *measured(cost__evaluate_peak_memory_bytes=7)).read_text())
    assert with_it["cost"]["evaluate_peak_memory_bytes"] == 7
