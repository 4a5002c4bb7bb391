"""Methods by name: what each stands for, what may stand beside it, and what is refused."""

import pytest

from kd_bench.errors import UserError
from kd_bench.recipe import load_recipe
from kd_bench.recipe_method import PRESETS, Method
from kd_bench.runs.listing import methods

BASE = "name: r\nteacher: {model: T}\nstudents: [{name: a, model: S}]\ntasks: [one]\n"


def recipe(tmp_path, text: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(BASE + text)
    return load_recipe(path)


def test_each_preset_is_the_settings_that_it_lists():
    rows = {row["name"]: row for row in methods()}
    assert list(rows) == list(PRESETS)
    for name, preset in PRESETS.items():
        made = Method(preset=name)
        assert made.label == name
        for key, value in preset.settings.items():
            assert getattr(made, key) == value == rows[name]["settings"][key]
        assert set(preset.takes) <= set(Method.model_fields)


def test_the_papers_settings():
    distillm, second = Method(preset="distillm"), Method(preset="distillm2")
    assert (distillm.divergence, distillm.skew, distillm.sampling) == ("skew_reverse_kl", 0.1, "adaptive")
    assert (distillm.capacity, distillm.margin) == (1000, 0.1)
    assert (second.divergence, second.completions, second.sampling, second.contrast) == (
        "skew_kl",
        "teacher",
        "pair",
        1.0,
    )
    assert (Method(preset="gkd").beta, Method(preset="gkd").lmbda) == (0.5, 0.5)
    assert not Method(preset="seqkd").uses_teacher and not Method(preset="seqkd").student_writes
    assert Method(preset="minillm_rkl").lmbda == 1.0


def test_a_name_alone_and_sft_among_the_methods(tmp_path):
    found = recipe(tmp_path, "methods: [sft, kd, {preset: distillm, skew: 0.2}]\nbaselines: [undistilled]\n")
    assert [method.label for method in found.every_method] == ["kd", "distillm"]
    assert found.baselines == ["undistilled", "sft"]
    assert found.every_method[1].skew == 0.2
    assert recipe(tmp_path, "method: kd\n").method.preset == "kd"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("method: {preset: kd, skew: 0.2}", "kd does not use `skew`"),
        ("method: {preset: seqkd, temperature: 2.0}", "seqkd does not use `temperature`: it takes nothing but"),
        ("method: {preset: distillm, lmbda: 0.5}", "distillm does not use `lmbda`"),
        ("method: distilm", "Did you mean `distillm`?"),
        ("method: sft", "sft looks at no teacher"),
        ("methods: [sft]", "sft looks at no teacher"),
        ("methods: [kd, {preset: sft, name: ft}]", "sft looks at no teacher"),
        ("methods: [kd, {cross_entropy: 1.0}]", "sft looks at no teacher"),
        ("methods: [kd, {name: sft}]", "'sft' is the baseline's own name"),
        ("method: {preset: gkd, cross_entropy: 0.5}", "gkd does not use `cross_entropy`"),
        ("training: {learning_rate: 1e-4}\nsearch: {learning_rates: [1e-4, 2e-4]}", "take one of the two out"),
        ("method: {sampling: pair}", "`divergence` has to be skew_kl"),
        ("method: {sampling: adaptive, lmbda: 0.5}", "decides itself when the student writes"),
        ("method: {cross_entropy: 1.0, lmbda: 0.5}", "learns nothing from repeating its own"),
        ("method: {margin: 0.2}", "sampling: fixed does not use it, only adaptive"),
        ("search: {learning_rates: [1e-4, 1e-4]}", "stands there twice"),
        ("search: {learning_rates: [1e-4, 2e-4]}\nmethod: {preset: kd, learning_rate: 1e-5}", "kd has a learning_rate"),
        ("teacher: {model: T, finetune: {quantize: nf4}}", "give `lora: {}` as well"),
        ("students: [{name: a, model: S, quantize: [int4]}]", "'int4' is not one of nf4, int8"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, text, told):
    own = {line.split(":")[0] for line in text.splitlines()}
    base = "".join(line + "\n" for line in BASE.splitlines() if line.split(":")[0] not in own)
    path = tmp_path / "recipe.yaml"
    path.write_text(base + text + "\n")
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert told in str(caught.value)


def test_a_preset_can_be_said_in_full(tmp_path):
    """What a preset stands for is a result and no name: written out, it trains the same stage."""
    from kd_bench.runs.plan import make_plan
    from tests.runs.test_plan import facts_for

    short = recipe(tmp_path, "method: distillm\n")
    full = recipe(tmp_path, "method: {divergence: skew_reverse_kl, skew: 0.1, sampling: adaptive}\n")
    digests = [{stage.digest for stage in make_plan(some, facts_for(some))} for some in (short, full)]
    assert digests[0] == digests[1]
