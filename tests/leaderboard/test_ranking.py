import pytest

from kd_bench.leaderboard.ranking import headline_of, shown_metrics, tables
from kd_bench.leaderboard.schema import Result
from tests.leaderboard.made import HASH, content, lines, result

FLOOR = {"answer": "unanswerable", "scores": {"f1": 0.5}}
ANSWERABLE = [True, False] * 4
TEACHER = [1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 0.5, 1.0]  # 0.875
GOOD = [0.5, 1.0, 0.5, 1.0, 0.5, 1.0, 0.5, 1.0]  # 0.75
POOR = [0.0, 1.0, 0.5, 1.0, 0.0, 1.0, 0.0, 1.0]  # 0.5625
WORSE = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]  # 0.375


def squad(scores, name="student", role="distilled", **changes):
    return result(lines(scores, answerable=ANSWERABLE), name, role, **{"floor": FLOOR, **changes})


def rows(results):
    (table,) = tables(results)
    return {row.name: row for row in table.rows}


def test_headline_metric():
    assert headline_of(["em", "f1", "has_ans_f1"]) == "f1"
    assert headline_of(["acc_norm", "acc"]) == "acc"
    assert headline_of(["exact_match,strict", "exact_match,loose"]) == "exact_match,loose"
    assert headline_of(["rouge2", "rouge1"]) == "rouge1"
    assert shown_metrics({"em", "f1", "no_ans_em", "abstained", "has_ans_f1", "rougeL"}, "f1") == [
        *("f1", "em", "rougeL", "has_ans_f1", "abstained")
    ]
    assert shown_metrics(set("abcdefg"), "d") == list("dabce")


def test_retention_and_compression_by_hand():
    found = rows([squad(TEACHER, "teacher", "teacher"), squad(GOOD), squad(WORSE, "raw", "undistilled")])
    assert found["student"].kept.value == pytest.approx(0.75 / 0.875)
    assert found["student"].above_floor.value == pytest.approx((0.75 - 0.5) / (0.875 - 0.5))
    assert found["student"].answerable_kept == pytest.approx(0.5 / 0.75)
    assert found["student"].fewer == pytest.approx(0.25)
    assert found["student"].above_floor.low < found["student"].above_floor.value < found["student"].above_floor.high
    assert found["raw"].above_floor.value == pytest.approx(-1 / 3)  # below the floor is less than nothing
    assert found["teacher"].above_floor.value == 1 and found["teacher"].fewer is None


def test_without_samples_there_is_the_value_and_no_interval():
    with_them = [squad(TEACHER, "teacher", "teacher"), squad(GOOD)]
    (table,) = tables([Result(some.record, None) for some in with_them])
    student = next(row for row in table.rows if row.name == "student")
    assert student.above_floor.value == pytest.approx(2 / 3) and student.above_floor.low is None
    assert student.kept.value == pytest.approx(rows(with_them)["student"].kept.value)
    assert any("No intervals" in note for note in table.notes)


def test_order_teacher_then_students_by_retention_with_their_siblings_then_others():
    half = [(a + b) / 2 for a, b in zip(GOOD, POOR)]
    results = [
        squad(TEACHER, "outside", "other"),
        squad(GOOD, "big-sft", "sft", model__student="big"),
        squad(POOR, "big-kd", model__student="big", model__parameters=800),
        squad(half, "big-kd2", model__student="big", model__parameters=800),
        squad(WORSE, "big-raw", "undistilled", model__student="big"),
        squad(GOOD, "small-kd", model__student="small", model__parameters=500),
        squad(WORSE, "small-raw", "undistilled", model__student="small", model__parameters=500),
        squad(TEACHER, "teacher", "teacher"),
        squad(GOOD, "orphan", model__teacher="nobody"),
    ]
    (table,) = tables(results)
    # Equal retention of the best rows: the smaller student first.
    expected = ["teacher", "small-kd", "small-raw", "big-kd2", "big-kd", "big-sft", "big-raw", "orphan", "outside"]
    assert [row.name for row in table.rows] == expected
    assert tables(reversed(results)) == [table]
    assert [(some.distilled.name, some.other.name) for some in table.contrasts] == [
        ("small-kd", "small-raw"),
        ("big-kd2", "big-sft"),
        ("big-kd", "big-sft"),
    ]
    assert table.contrasts[2].change.value == pytest.approx(0.5625 - 0.75)
    assert table.contrasts[2].change.high <= 0
    orphan = next(row for row in table.rows if row.name == "orphan")
    assert orphan.above_floor.value is None and any("nobody" in note for note in table.notes)


def test_same_names_in_two_runs_are_two_models():
    strong = [squad(TEACHER, "teacher", "teacher"), squad(POOR)]
    weak = [
        squad(GOOD, "teacher", "teacher", provenance__run="weak"),
        squad(POOR, provenance__run="weak"),
    ]
    (table,) = tables([*weak, *strong])
    assert [(row.run, row.name) for row in table.rows] == [
        *(("run", "teacher"), ("run", "student"), ("weak", "teacher"), ("weak", "student"))
    ]
    assert table.rows[1].kept.value == pytest.approx(0.5625 / 0.875)
    assert table.rows[3].kept.value == pytest.approx(0.5625 / 0.75)


@pytest.mark.parametrize("scores", [[0, 1.0, 0, 1, 0, 0.5, 0, 1], [float(not some) for some in ANSWERABLE]])
def test_retention_is_undefined_and_said_so_where_the_teacher_is_not_above_the_floor(scores):
    (table,) = tables([squad(scores, "teacher", "teacher"), squad(GOOD)])
    student = table.rows[1]
    assert student.name == "student" and student.above_floor.value is None
    assert student.kept.value is not None
    assert any("not clearly above the floor" in note for note in table.notes)


def test_without_a_floor_retention_above_it_is_undefined():
    (table,) = tables([squad(TEACHER, "teacher", "teacher", floor=None), squad(GOOD, floor=None)])
    assert table.rows[1].kept.value is not None and table.rows[1].above_floor.value is None
    assert any("floor" in note for note in table.notes)


def test_seeds_are_averaged_with_their_standard_deviation():
    seeds = [squad(GOOD, seed=0), squad(POOR, seed=1)]
    found = rows([squad(TEACHER, "teacher", "teacher"), *seeds])
    measure = found["student"].scores["f1"]
    assert measure.seeds == 2
    assert measure.value == pytest.approx((0.75 + 0.5625) / 2)
    assert measure.std == pytest.approx((0.75 - 0.5625) / 2**0.5)
    assert measure.stderr == pytest.approx(sum(some.record.scores["f1"].stderr for some in seeds) / 2)
    assert found["student"].above_floor.value == pytest.approx(((0.75 + 0.5625) / 2 - 0.5) / 0.375)
    assert found["student"].above_floor.low is not None
    assert found["teacher"].scores["f1"].std is None


def test_a_missing_task_is_a_row_without_scores():
    other = {"task__name": "toy2"}
    first, second = tables(
        [
            squad(TEACHER, "teacher", "teacher"),
            squad(GOOD),
            squad(GOOD, "outside", "other"),
            squad(TEACHER, "teacher", "teacher", **other),
            squad(POOR, "raw", "undistilled", **other),
        ]
    )
    assert [(row.name, bool(row.results)) for row in first.rows] == [
        *(("teacher", True), ("student", True), ("raw", False), ("outside", True))
    ]
    # Nobody said that a model from outside would be measured on everything.
    assert [(row.name, bool(row.results)) for row in second.rows] == [
        *(("teacher", True), ("student", False), ("raw", True))
    ]
    assert second.rows[1].scores == {} and second.rows[1].kept.value is None


@pytest.mark.parametrize(
    "changes",
    [
        {"task__version": 2.0},
        {"task__num_fewshot": 1},
        {"task__fingerprint": {"test": {"questions": 8, "articles": 1, "hash": "f" * 16}}},
        {"task__fingerprint": {"questions": 8}},
        {"task__split": "validation", "task__fingerprint": {"validation": {"hash": HASH}}},
    ],
)
def test_other_questions_are_another_table(changes):
    assert len(tables([squad(TEACHER, "teacher", "teacher"), squad(GOOD)])) == 1
    assert len(tables([squad(TEACHER, "teacher", "teacher"), squad(GOOD, **changes)])) == 2


def test_fewer_questions_of_the_same_split_are_another_table():
    assert len(tables([squad(TEACHER, "teacher", "teacher"), result(lines(GOOD[:4]), floor=FLOOR)])) == 2


def test_differences_in_prompts_are_noted():
    (table,) = tables([squad(TEACHER, "teacher", "teacher"), squad(GOOD, task__hash="other")])
    assert any("task hashes differ" in note for note in table.notes)


def test_who_trained_on_the_questions_is_shown_and_not_ranked():
    by_name, by_hash = {"declared": ["test"]}, {"declared": ["validation"], "hashes": {"validation": HASH}}
    results = [squad(TEACHER, "teacher", "teacher"), squad(WORSE, trained_on={"declared": ["train"]})]
    results += [squad(GOOD, "named", trained_on=by_name), squad(GOOD, "hashed", trained_on=by_hash)]
    (table,) = tables(results)
    assert {row.name: row.rank for row in table.rows} == {"teacher": None, "named": None, "hashed": None, "student": 1}
    assert all(row.above_floor.value is not None for row in table.rows)
    assert [note for note in table.notes if "not ranked" in note] == [
        f"run/{name} is not ranked: it was trained on the questions it is measured on." for name in ("hashed", "named")
    ]


def test_a_ratio_without_an_interval_is_shown_and_not_ranked():
    """Of six passages two leave the teacher below the floor, so that some bootstrap draw does."""
    barely, better = [0.8, 1.0] * 4 + [0.0, 0.92] * 2, [0.9, 1.0] * 6

    def made(scores, name, role="distilled", **changes):
        told = lines(scores, answerable=[True, False] * 6)
        return result(told, name, role, floor=FLOOR, **changes)

    weak = {"provenance__run": "weak"}
    results = [made(better, "teacher", "teacher"), made(barely, "student")]
    (table,) = tables([*results, made(barely, "teacher", "teacher", **weak), made(better, "student", **weak)])
    students = {row.run: row for row in table.rows if row.name == "student"}
    assert students["weak"].above_floor.value > 1 and students["weak"].above_floor.low is None
    assert (students["weak"].rank, students["weak"].efficient) == (None, {})
    assert students["run"].rank == 1 and students["run"].efficient["parameters"]
    assert [note for note in table.notes if "no ranks" in note and "'weak'" in note]


def test_the_floor_is_known_a_question_at_a_time_where_it_abstains():
    """Draws with more questions without an answer raise student, teacher and floor: the interval is narrower."""
    teacher = [1.0 if i % 4 else 0.0 for i in range(80)]
    student = [0.5 if i % 4 else 0.0 for i in range(80)]
    answerable = [i < 40 for i in range(80)]
    told = {
        "floor": {"answer": "unanswerable", "scores": {"f1": 0.5}},
        "task__fingerprint": {"hash": HASH},
    }
    student = [score if has else 1.0 for score, has in zip(student, answerable)]
    teacher = [score if has else 1.0 for score, has in zip(teacher, answerable)]

    def width(answer):
        floor = {"answer": answer, "scores": {"f1": 0.5}}
        results = [
            result(lines(scores, answerable=answerable), name, role, **{**told, "floor": floor})
            for scores, name, role in ((teacher, "teacher", "teacher"), (student, "student", "distilled"))
        ]
        found = rows(results)["student"].above_floor
        assert found.value == pytest.approx((0.375 / 2) / (0.75 / 2))
        return found.high - found.low if found.low is not None else float("inf")

    assert width("unanswerable") < 0.5 * width("yes")


def test_contents_are_valid_records():
    """The fixtures' records are what the schema demands, so the tests above test no impossible case."""
    assert result(GOOD).record.model_dump(mode="json", exclude_unset=True) == content(lines(GOOD))
