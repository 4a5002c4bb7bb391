"""The typed recipe: teacher, students, tasks, methods, baselines, training, evaluation, seeds, where results go.

Every key is checked and every problem is told at once, with the file's name and, for a misspelt key, the likely one.
`recipe_sections.py` has the parts, `recipe_method.py` the methods, `recipe_files.py` reads the YAML.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from kd_bench.recipe_files import apply_overrides, find_recipe, read_yaml
from kd_bench.recipe_method import SFT, Method
from kd_bench.recipe_problems import problems_of
from kd_bench.recipe_sections import Data, Evaluation, Name, Search, Section, Student, Teacher, Training

PLACES = ("output", "leaderboard", "data.dir")  # where things lie, which changes no number


class Recipe(Section):
    name: Name = Field(description="Names the run's folder and its records: another name starts a run afresh.")
    teacher: Teacher = Field(description="The model whose ability is to be kept.")
    students: list[Student] = Field(
        min_length=1, description="The smaller models, each distilled and compared on its own."
    )
    tasks: list[str] = Field(
        min_length=1, description="lm-eval tasks trained on, all mixed; any with a training split."
    )
    method: Method = Field(default_factory=Method, description="How the student learns from the teacher.")
    methods: list[Method] | None = Field(
        None, min_length=1, description="Several methods on one teacher, instead of `method`: each is a row of its own."
    )
    baselines: list[Literal["undistilled", "sft"]] = Field(
        ["undistilled", "sft"],
        description="What distillation has to beat; without sft nobody knows what the teacher added.",
    )
    training: Training = Field(
        default_factory=Training, description="The students' training, sft and distillation alike."
    )
    search: Search | None = Field(
        None, description="Chooses every method's learning rate on the validation split, out of one grid for all."
    )
    evaluation: Evaluation = Field(default_factory=Evaluation, description="What is scored and how.")
    data: Data = Field(default_factory=Data, description="Where questions come from.")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [0], min_length=1, description="Each trains every student anew: more cost time and show what is chance."
    )
    output: str = Field(
        "runs", min_length=1, description="Stages go to <output>/<name>/, so that a repeated run finds them."
    )
    leaderboard: str = Field(
        "leaderboard/results", min_length=1, description="Where the records go that `kd-bench leaderboard` reads."
    )

    _overrides: tuple[str, ...] = PrivateAttr(())

    @property
    def overrides(self) -> list[str]:
        """The `key.sub=value` that it was read with and that change what is measured: no place of this machine."""
        return [text for text in self._overrides if text.partition("=")[0] not in PLACES]

    @model_validator(mode="before")
    @classmethod
    def _sft_is_the_baseline(cls, data: Any) -> Any:
        """`methods: [sft, kd]` is `methods: [kd]` with the baseline that is there anyway."""
        if not isinstance(data, dict) or not isinstance(data.get("methods"), list):
            return data
        others = [method for method in data["methods"] if method not in (SFT, {"preset": SFT})]
        baselines = data.get("baselines")
        if len(others) == len(data["methods"]) or not others:
            return data
        if isinstance(baselines, list) and SFT not in baselines:
            data = {**data, "baselines": [*baselines, SFT]}
        return {**data, "methods": others}

    @field_validator("students")
    @classmethod
    def _distinct_names(cls, students: list[Student], info: ValidationInfo) -> list[Student]:
        names = [student.name for student in students]
        _refuse_repeats(names, "two students are called {!r}: names tell rows apart.")
        if "teacher" in names:
            raise ValueError("'teacher' is the teacher's own name: call the student something else.")
        origins: dict[str, set[tuple]] = {}
        for part in [*([info.data["teacher"]] if "teacher" in info.data else []), *students]:
            if part.model:
                origins.setdefault(part.model, set()).add((part.revision, part.trust_remote_code))
        if apart := [source for source, some in origins.items() if len(some) > 1]:
            raise ValueError(f"{apart[0]} stands there twice, with another revision or trust_remote_code: use folders.")
        return students

    @field_validator("methods")
    @classmethod
    def _distinct_methods(cls, methods: list[Method] | None, info: ValidationInfo) -> list[Method] | None:
        if methods is None:
            return None
        if info.data.get("method") not in (None, Method()):
            raise ValueError("give either `method` or `methods`.")
        _refuse_repeats([method.label for method in methods], "two methods are called {!r}: give one a `name`.")
        if SFT in (method.name for method in methods):
            raise ValueError("'sft' is the baseline's own name: call the method something else.")
        if any(method.is_sft for method in methods):
            raise ValueError(_NO_TEACHER)
        return methods

    @field_validator("method")
    @classmethod
    def _a_method_with_a_teacher(cls, method: Method) -> Method:
        if method.is_sft:
            raise ValueError(_NO_TEACHER)
        return method

    @field_validator("search")
    @classmethod
    def _one_grid_for_all(cls, search: Search | None, info: ValidationInfo) -> Search | None:
        methods = info.data.get("methods") or [info.data["method"]] if "method" in info.data else []
        own = [method.label for method in methods if method.learning_rate is not None]
        if search is not None and own:
            raise ValueError(
                f"{', '.join(own)} has a learning_rate of its own: the search gives every method the same."
            )
        if search is not None and "learning_rate" in getattr(info.data.get("training"), "model_fields_set", ()):
            raise ValueError("it chooses the rate, and `training.learning_rate` names one: take one of the two out.")
        return search

    @field_validator("tasks", "baselines", "seeds")
    @classmethod
    def _distinct(cls, values: list) -> list:
        _refuse_repeats(values, "{!r} stands there twice.")
        return values

    @property
    def every_method(self) -> list[Method]:
        return self.methods or [self.method]

    @property
    def evaluation_tasks(self) -> list[str]:
        return list(self.evaluation.tasks or self.tasks)


_NO_TEACHER = (
    "sft looks at no teacher: it is the baseline that is there anyway, and its rate is `training.learning_rate`."
)


def _refuse_repeats(values: list, message: str) -> None:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(" ".join(message.format(value) for value in repeated))


def load_recipe(path_or_name, overrides=()) -> Recipe:
    """The checked recipe of a YAML file, or of a name in `recipes/`, with `key.sub=value` overrides on top.

    Raises UserError with every problem at once.
    """
    from pydantic import ValidationError

    from kd_bench.errors import UserError

    path = find_recipe(path_or_name)
    data = read_yaml(path)
    problems = apply_overrides(data, overrides)
    if "grid" in data or "runs" in data:
        raise UserError(str(path), "is a study, a recipe over a grid: run it with `kd-bench study`.")
    recipe = None
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        problems += problems_of(error, Recipe)
    if problems:
        raise UserError(str(path), problems)
    recipe._overrides = tuple(overrides)
    return recipe


def recipe_hash(recipe: Recipe) -> str:
    """16 hex digits over everything but where things lie: the same experiment in another folder has the same hash.

    Settings that came later are left out at the value that was meant before, so that old records keep their hash.
    """
    content = recipe.model_dump(
        mode="json", exclude={"output": True, "leaderboard": True, "data": {"dir"}, "training": {"max_tokens"}}
    )
    method = {"alpha": None, "name": None, "learning_rate": None, "teacher_noise": 0.0, "preset": None}
    method |= {"completions": "data", "sampling": "fixed", "capacity": None, "margin": None, "contrast": None}
    later = [
        (content["training"], {"teacher_states_dtype": "float32", "lora": None}),
        (content["teacher"], {"quantize": None}),
        (content["teacher"]["finetune"] or {}, {"lora": None, "quantize": None}),
        *((student, {"quantize": []}) for student in content["students"]),
        (content["data"], {"split_seed": 0}),
        (content["method"], method),
        (content, {"methods": None, "search": None}),
    ]
    for section, values in later:
        for key, before in values.items():
            if key in section and section[key] == before:
                del section[key]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
