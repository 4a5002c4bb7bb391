"""The numbers of a report against other ways to compute them."""

import warnings
from math import sqrt
from statistics import fmean, stdev, variance

import pytest
from scipy.stats import t

from kd_bench.leaderboard.schema import Result, Selection
from kd_bench.leaderboard.statistics import Estimate
from kd_bench.report.build import files
from kd_bench.report.draws import components
from kd_bench.report.gains import section as gains_section
from kd_bench.report.oneshot import Gain, gains, stops
from kd_bench.report.ran import made_with, once, runs
from kd_bench.report.rates import chosen, searches
from kd_bench.report.sensitivity import varied
from kd_bench.report.study import method_of
from kd_bench.report.validation import gaps
from kd_bench.report.words import independent, points, side
from tests.report import made
from tests.report.made import by_model, study_of, table_after


@pytest.fixture(scope="module")
def toy():
    return study_of(made.study())


@pytest.fixture(scope="module")
def report(toy):
    return files(toy)


def values(results, name, shots, metric="f1"):
    mine = [r.record for r in results if r.record.model.name == name and r.record.task.num_fewshot == shots]
    return [r.scores[metric].value for r in mine], [r.validation.scores[metric].value for r in mine]


def test_scores_are_means_and_deviations_over_seeds_on_both_splits_in_both_settings(toy, report):
    markdown = report["report.md"]
    test = by_model(table_after(markdown, "### squad (en), test, 48 questions"))
    validation = by_model(table_after(markdown, "### squad (en), validation"))
    for shots, column in ((0, "zero-shot"), (1, "one-shot")):
        for metric, shown in (("em", "EM"), ("rougeL", "ROUGE-L"), ("f1", "F1")):
            for name in ("12l-kd", "6l-sft"):
                for table, scores in zip((test, validation), values(toy.results, name, shots, metric)):
                    expected = f"{100 * fmean(scores):.1f} ± {100 * stdev(scores):.1f}"
                    assert table[name][f"{column} {shown}"] == expected
    assert test["12l-kd"]["Seeds"] == "3" and test["teacher"]["Seeds"] == "–"
    assert test["*floor*: “unanswerable”"]["one-shot EM"] == "25.0"
    assert validation["*floor*: “unanswerable”"]["one-shot EM"] == "30.0"


def test_rows_stand_by_size_then_method(report):
    rows = table_after(report["report.md"], "### squad (en), test, 48 questions")
    names = [row["Model"].strip("`") for row in rows[1:]]
    order = ["undistilled", "sft", "distillm", "kd"]
    assert names == ["teacher", *(f"{student}-{method}" for student in ("12l", "6l") for method in order)]


def test_gains_over_fine_tuning_are_the_leaderboards_contrasts(toy):
    rows = table_after("\n\n".join(["", *gains_section(toy)]), "## Does distillation beat fine-tuning?")
    assert len(rows) == 8
    found = {(table.task, c.distilled.name): c.change for table in toy.tables for c in table.contrasts}
    for row in rows:
        change = found[row["Task"].strip("`"), f"{row['Student']}-{row['Method']}".replace("`", "")]
        assert row["Difference"].startswith(f"{points(change.value)} [")
        told = {1: "**better**", -1: "**worse**", 0: "not told apart"}[side(change)]
        assert row["Verdict"] == told
    assert {side(change) for change in found.values()} == {0, 1}


def test_a_difference_of_validation_and_test_adds_both_passage_variances_and_the_seeds(toy):
    (gap,) = [g for g in gaps(toy) if g.row.name == "12l-kd" and g.table.num_fewshot == 0]
    records = [result.record for result in gap.row.results]
    changes = [r.validation.scores["f1"].value - r.scores["f1"].value for r in records]
    assert gap.change.value == pytest.approx(fmean(changes))
    parts = [
        (
            fmean(r.validation.scores["f1"].stderr for r in records) ** 2,
            records[0].validation.scores["f1"].clusters - 1,
        ),
        (fmean(r.scores["f1"].stderr for r in records) ** 2, 11),
        (variance(changes) / 3, 2),
    ]
    total = sum(part for part, _ in parts)
    half = sqrt(total) * t.ppf(0.975, total**2 / sum(part**2 / freedom for part, freedom in parts))
    assert gap.change.stderr == pytest.approx(sqrt(total))
    assert (gap.change.low, gap.change.high) == pytest.approx((fmean(changes) - half, fmean(changes) + half))


def flags(level, teacher_level):
    """The marks of a student and its teacher that score so much on the validation split and about 0.9 on the test."""
    results = []
    for name, seed, own in (("teacher", None, teacher_level), ("12l-kd", 0, level)):
        some = made.record("run", name, 0, seed, 0.9)
        lines = made.answers(own, f"{name} validation", 2000)
        for i, line in enumerate(lines):
            line["cluster"] = f"v{i}"
        changes = {"validation": {"scores": made.sampled.scores(lines)}}
        results.append(Result(some.record.model_validate({**some.record.model_dump(), **changes}), some.samples))
    return {gap.row.name: gap.flag for gap in gaps(study_of(results))}


def test_a_student_is_marked_twice_only_where_it_differs_from_its_teacher_too():
    assert flags(0.9, 0.9) == {"teacher": "", "12l-kd": ""}
    assert flags(0.2, 0.2) == {"teacher": "†", "12l-kd": "†"}
    assert flags(0.2, 0.9) == {"teacher": "", "12l-kd": "‡"}


def test_independent_parts_without_a_known_error_have_no_interval():
    assert independent(0.1, [(0.01, 5), None]) == Estimate(0.1)
    assert independent(0.1, [(0.0, 5)]) == Estimate(0.1)
    assert independent(0.0, [(0.04, 9)]).high == pytest.approx(0.2 * t.ppf(0.975, 9))


def test_variance_components_by_hand():
    # Rows 1, 3 and 5, columns ±1, no rest: MS_demo = 2 * 4 and MS_split = 3 * 2.
    exact = {(d, s): 1 + 2 * d + (1 if s else -1) for d in range(3) for s in range(2)}
    assert components(exact) == pytest.approx((4, 2, 0))
    # Only interplay: the mean squares of both are 0, which would make negative components.
    assert components({(0, 0): 1, (1, 1): 1, (0, 1): 0, (1, 0): 0}) == pytest.approx((0, 0, 1))
    assert components({(0, None): 1.0, (1, None): 3.0}) == (2.0, None, None)
    assert components({(None, 0): 1.0, (None, 1): 3.0}) == (None, 2.0, None)
    assert components({(0, 0): 1, (1, 1): 1, (0, 1): 0}) == (None, None, None)


def test_cross_validation_has_a_row_a_model_over_all_draws():
    markdown = files(study_of(made.draws(), "draws"))["report.md"]
    rows = table_after(markdown, "### Over demonstrations and splits")
    assert [(row["Model"], row["Of"], row["Runs"]) for row in rows] == [
        (f"`{name}`", kind, "6") for name in ("teacher", "12l-sft", "12l-kd") for kind in ("test", "validation − test")
    ]
    assert "plots/draws.svg" in markdown


def test_the_chosen_rate_is_bold_and_a_failed_one_named(toy, report):
    found = searches(toy)
    assert len(found) == 12 and all(chosen(some.selection).learning_rate == 3e-4 for some in found)
    markdown = report["report.md"]
    row = table_after(markdown, "## Learning rates")[0]
    assert (row["0.0001"], row["0.0003"], row["0.01"]) == ("50.0", "**62.5**", "failed")
    assert "the loss became nan at step 12" in markdown


def test_rates_none_of_which_failed_fill_their_panels():
    trials = [{"learning_rate": rate, "score": score} for rate, score in ((1e-4, 0.5), (3e-4, 0.625))]
    selection = {"metric": "f1", "split": "validation", "questions": 40, "seed": 0, "trials": trials}
    students = [r for r in made.study(seeds=(0,)) if r.record.selection]
    results = [
        Result(r.record.model_copy(update={"selection": Selection.model_validate(selection)}), r.samples)
        for r in students
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of axes that shrink to nothing
        markdown = files(study_of(results))["report.md"]
    told = next(line for line in markdown.splitlines() if "Best at the highest rate tried" in line)
    assert told.startswith("- Best at") and told.endswith(" and 9 more.") and told.count("`12l-") == 3
    assert "lowest rate" not in markdown


def test_what_is_kept_has_no_interval_under_a_teacher_too_close_to_the_floor():
    students = [r for r in made.study() if r.record.model.name != "teacher"]
    weak = [made.record(run, "teacher", shots, None, 0.36) for shots, run in ((0, "zeroshot"), (1, "oneshot"))]
    markdown = files(study_of([*weak, *students]))["report.md"]
    assert "too close to the floor" in markdown.partition("## What is kept")[2]
    assert "too close to the floor" not in files(study_of(made.study()))["report.md"]


def test_one_shot_gain_is_paired_by_question_over_common_seeds(toy):
    found = {gain.model.name: gain for gain in gains(toy)}
    assert len(found) == 9
    one, zero = (values(toy.results, "12l-kd", shots)[0] for shots in (1, 0))
    assert found["12l-kd"].change.value == pytest.approx(fmean(one) - fmean(zero))
    results = [r for r in toy.results if not (r.record.seed == 2 and r.record.task.num_fewshot)]
    fewer = {gain.model.name: gain for gain in gains(study_of(results))}
    assert fewer["12l-kd"].zero == pytest.approx(fmean(zero[:2]))


def test_a_run_of_fewer_students_is_paired_and_one_of_other_sizes_is_not():
    """A student's name says which it is; where a run lists its own, that is no setting."""
    results = [r for r in made.study(seeds=(0,)) if not (r.record.task.num_fewshot and r.record.model.student == "6l")]
    listed = {"students": [{"name": "12l", "init": {"layers": [0, 1]}}]}

    def with_students(**model):
        for record, lines in results:
            if record.task.num_fewshot:
                point = record.provenance.point | listed
                changed = {"provenance": record.provenance.model_copy(update={"point": point})}
                changed["model"] = record.model.model_copy(update=model if record.model.student else {})
                yield Result(record.model_copy(update=changed), lines)
            else:
                yield Result(record, lines)

    study = study_of(list(with_students()))
    assert "students" in study.varied and set(study.variants.values()) == {""}
    assert {gain.model.name for gain in gains(study)} == {"teacher", *(f"12l-{name}" for name in made.METHODS)}
    assert "tasks squad_kd_oneshot, students 12l" in [row[1] for row in runs(study)[0]]
    assert varied(study) == []
    assert [gain.model.name for gain in gains(study_of(list(with_students(parameters=1))))] == ["teacher"]


def test_where_one_shot_stops_helping():
    template = gains(study_of(made.study(seeds=(0,))))[1]

    def told(*ends):
        own = []
        for number, (low, high) in enumerate(ends):
            model = template.model.model_copy(
                update={"name": f"s{number}-kd", "student": f"s{number}", "parameters": 10**8 - number * 10**7}
            )
            own.append(template._replace(model=model, change=Estimate((low + high) / 2, 0.1, low, high)))
        (line,) = stops(own)
        return line

    assert isinstance(template, Gain)
    assert "last helps at `s0` (100.0 M) and stops helping at `s1` (90.0 M)" in told((0.1, 0.3), (-0.1, 0.1))
    assert "it hurts at `s1`" in told((0.1, 0.3), (-0.3, -0.1))
    assert "still helps at the smallest measured, `s1`" in told((-0.1, 0.3), (0.1, 0.3))
    assert "no gain can be told" in told((-0.1, 0.3), (-0.1, 0.3))


def test_sensitivity_groups_what_differs_in_one_setting():
    found = varied(study_of(made.settings(), "settings"))
    assert [(some.key, some.name, [value for value, _ in some.rows]) for some in found] == [
        ("method.skew", "12l-distillm", [0.01, 0.1, 0.5]),
        ("training.learning_rate", "12l-kd", [1e-4, 1e-3]),
    ]
    assert all(len(row.results) == 3 for some in found for _, row in some.rows)


def test_runs_of_different_commands_are_told_with_each():
    def ran(record):
        wanted = ["squad_kd_zeroshot", "squad_kd_oneshot"][record.task.num_fewshot]
        return record.provenance.model_copy(update={"overrides": [f"tasks=[{wanted}]"]})

    results = [Result(r.model_copy(update={"provenance": ran(r)}), lines) for r, lines in made.study(seeds=(0,))]
    told = made_with(study_of(results)).splitlines()[-1]
    command = "`kd-bench study recipes/toy.yaml 'tasks=[squad_kd_%sshot]'`"
    assert told == f"- Made again by {command % 'one'} and {command % 'zero'}."


def test_time_that_runs_share_counts_once():
    assert once([("teacher", None, 1.5), ("teacher", None, 1.5), ("kd", 0, 2.0), ("kd", 1, None)]) == 3.5
    assert once([("kd", 0, None)]) is None


def test_a_method_is_what_the_name_adds_to_the_students():
    named = {r.record.model.name: method_of(r.record.model) for r in made.study(seeds=(0,))}
    assert named["12l-distillm"] == "distillm" and named["6l-undistilled"] == "undistilled"
    assert named["teacher"] == "teacher"
