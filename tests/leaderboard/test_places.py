import pytest

from kd_bench.errors import UserError
from kd_bench.leaderboard.places import rankings
from kd_bench.leaderboard.ranking import tables
from kd_bench.leaderboard.ranks import over_tasks, ranks
from tests.leaderboard.test_ranking import GOOD, POOR, TEACHER, WORSE, squad

TASKS = {"a_kd_zeroshot": 0, "a_kd_oneshot": 1, "b_kd_en_zeroshot": 0, "b_kd_de_zeroshot": 0}


def run(name, students, tasks=TASKS, **changes):
    """Results of a teacher and `students` {name: scores} on `tasks`."""
    made = []
    for task, shots in tasks.items():
        at = {"task__name": task, "task__num_fewshot": shots, "provenance__run": name, **changes}
        made.append(squad(TEACHER, "teacher", "teacher", **at))
        made += [squad(scores, student, **at) for student, scores in students.items()]
    return made


def named(results, *chosen, **options):
    return {some.name: some for some in rankings(tables(results), chosen, **options)}


def names(ranking):
    return [student.row.name for student in ranking.students]


def test_the_sets_are_all_tasks_and_their_parts_of_several():
    found = named(run("r", {"s": GOOD}))
    assert {name: some.tasks for name, some in found.items()} == {
        "all tasks": ["a_kd_oneshot", "a_kd_zeroshot", "b_kd_de_zeroshot", "b_kd_en_zeroshot"],
        "all a tasks": ["a_kd_oneshot", "a_kd_zeroshot"],
        "all zero-shot tasks": ["a_kd_zeroshot", "b_kd_de_zeroshot", "b_kd_en_zeroshot"],
        "all b tasks": ["b_kd_de_zeroshot", "b_kd_en_zeroshot"],
    }
    assert [name for name, some in found.items() if some.whole] == ["all tasks"]
    (alone,) = named(run("r", {"s": GOOD}, {"a_kd_zeroshot": 0})).values()
    assert (
        alone.whole
        and alone.students[0].kept == tables(run("r", {"s": GOOD}, {"a_kd_zeroshot": 0}))[0].rows[1].above_floor
    )
    assert named([]) == {}


def test_a_part_is_ranked_by_the_same_paired_tests():
    found = tables(run("r", {"good": GOOD, "poor": POOR, "worse": WORSE}))
    part = next(some for some in rankings(found) if some.name == "all b tasks")
    standings = {
        name: over_tasks([row.standing for n in part.tables for row in found[n].rows if row.name == name])
        for name in ("good", "poor", "worse")
    }
    assert {s.row.name: s.rank for s in part.students} == ranks(standings)
    assert {s.row.name: s.kept for s in part.students} == {n: s.estimate() for n, s in standings.items()}


def test_within_a_rank_the_smaller_comes_first_by_the_size_asked_for():
    results = [
        *run("r", {"heavy": POOR}, model__parameters=500, model__bytes_on_disk=9000),
        *[some for some in run("r", {"light": GOOD}, model__bytes_on_disk=100) if some.record.model.name == "light"],
    ]
    by_size = {axis: named(results, axis=axis)["all tasks"] for axis in ("parameters", "bytes_on_disk")}
    assert {s.rank for s in by_size["parameters"].students} == {1}  # eight questions tell none apart
    assert names(by_size["parameters"]) == ["heavy", "light"] and names(by_size["bytes_on_disk"]) == ["light", "heavy"]
    heavy, light = by_size["parameters"].students
    assert (heavy.efficient["parameters"], heavy.efficient["bytes_on_disk"]) == (True, False)
    assert (light.efficient["parameters"], light.efficient["bytes_on_disk"]) == (True, True)


def test_a_chosen_set_leaves_nobody_out_and_averages_over_nothing_missing():
    some_tasks = {"a_kd_zeroshot": 0, "a_kd_oneshot": 1}
    results = [*run("all", {"x": GOOD}), *run("part", {"y": POOR}, some_tasks)]
    (chosen,) = named(results, "a_kd_zeroshot", "b_kd_de_zeroshot").values()
    assert (chosen.name, chosen.whole) == ("a_kd_zeroshot, b_kd_de_zeroshot", True)
    assert [(s.row.name, s.rank, s.missing) for s in chosen.students] == [
        ("x", 1, []),
        ("y", None, ["b_kd_de_zeroshot"]),
    ]
    (single,) = named(results, "a_kd_oneshot").values()
    assert {s.row.name for s in single.students if s.rank} == {"x", "y"}
    (nobody,) = named([*run("p", {"x": GOOD}, {"a": 0}), *run("q", {"y": GOOD}, {"b": 0})], "a", "b").values()
    assert [(s.row.name, s.missing) for s in nobody.students] == [("x", ["b"]), ("y", ["a"])]


def test_runs_with_other_tasks_have_sets_of_their_own_in_which_all_who_can_take_part():
    small = {"a_kd_zeroshot": 0, "a_kd_oneshot": 1}
    found = named([*run("all", {"x": GOOD}), *run("part", {"y": POOR}, small)])
    assert [name for name, some in found.items() if some.whole] == ["all tasks of all", "all tasks of part"]
    assert names(found["all tasks of all"]) == ["x"]
    assert sorted(names(found["all tasks of part"])) == ["x", "y"]
    assert "all a tasks of all" not in found  # the same tasks as all of the other run's


def test_unknown_tasks_are_refused_with_the_nearest():
    with pytest.raises(UserError) as refused:
        named(run("r", {"s": GOOD}), "a_kd_zershot", "a_kd_zeroshot", "quite else")
    first, second = refused.value.problems
    assert first.startswith("'a_kd_zershot' is no task with a record here; there are a_kd_zeroshot")
    assert second.startswith("'quite else'") and "b_kd_en_zeroshot" in second
