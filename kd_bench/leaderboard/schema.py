"""The record's fields: strict, so that a record that reads is a record that can be trusted to be whole."""

import json
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_serializer, model_validator

# A file name is at most 255 bytes on common file systems; ".samples.jsonl" and a seed need the rest.
STEM_BYTES = 225
# Free-form parts are shown, and what shows them recurses and counts in floats.
DEPTH, LARGEST = 20, 1 << 63
CURVE_POINTS = 100


def file_safe(name: str) -> str:
    """`name` unchanged, or ValueError: names become parts of file names and cells of tables."""
    if not name.strip() or name != name.strip() or name.startswith("."):
        raise ValueError("must not be empty, begin with a dot, or begin or end with a space")
    if any(letter in "/\\" or (letter != " " and unicodedata.category(letter)[0] in "CZ") for letter in name):
        raise ValueError("must not have path separators, control or invisible characters")
    return name


def check_plain(value: Any, depth: int = 0) -> None:
    """Raises ValueError for what JSON can hold and a page can't show: deep nesting, integers beyond 64 bits, halves of
    surrogate pairs."""
    if depth > DEPTH:
        raise ValueError(f"nested more than {DEPTH} deep")
    if isinstance(value, BaseModel):
        value = vars(value)
    if isinstance(value, dict):
        for key, own in value.items():
            check_plain(key, depth + 1)
            check_plain(own, depth + 1)
    elif isinstance(value, list | tuple):
        for own in value:
            check_plain(own, depth + 1)
    elif isinstance(value, int) and abs(value) >= LARGEST:
        raise ValueError("an integer of more than 64 bits")
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError("text with half a surrogate pair, which no file can hold")


def iso_date(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Name = Annotated[str, AfterValidator(file_safe)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Model(Strict):
    """name: the same for every seed and every task of one model within a run. student: what the undistilled, the sft
    and the distilled rows of one student have in common (the recipe's name for it). teacher: the `name` of the
    teacher's own record."""

    name: Name
    role: Literal["teacher", "undistilled", "sft", "distilled", "other"]
    family: str | None = None
    source: str
    revision: str | None = None
    teacher: str | None = None
    student: str | None = None
    layers: Count | None = None
    parameters: Count | None = None
    parameters_without_embeddings: Count | None = None
    bytes_on_disk: Count | None = None


class Task(Strict):
    """fingerprint: that of the whole data set, {split: {"questions", "articles", "hash"}}, or of the measured split
    alone."""

    name: Name
    version: str | int | float | None = None
    hash: str | None = None
    num_fewshot: Count
    split: str
    fingerprint: dict[str, Any]

    @property
    def split_hash(self) -> str | None:
        own = self.fingerprint.get(self.split, self.fingerprint)
        return own.get("hash") if isinstance(own, dict) else None


class Score(Strict):
    """A mean in [0, 1] over n questions; stderr clustered by passage, None where it can't be known; clusters None where
    unclustered."""

    value: Share
    stderr: Amount | None
    n: Annotated[int, Field(ge=1)]
    clusters: Annotated[int, Field(ge=1)] | None


class Floor(Strict):
    answer: str
    scores: dict[str, Share]


class Cost(Strict):
    """Seconds, bytes, and tokens a second; None where it was not measured. What older records lack is written only
    where it is there, so that they stay the same bytes."""

    train_seconds: Amount | None = None
    train_peak_memory_bytes: Count | None = None
    evaluate_seconds: Amount | None = None
    evaluate_peak_memory_bytes: Count | None = Field(default=None, exclude_if=lambda value: value is None)
    generated_tokens_per_second: Amount | None = None


class Provenance(Strict):
    """run: the recipe's name. recipe: the file to give to `kd-bench distill`, where it is not recipes/<run>.yaml.
    overrides: the `key.sub=value` that stood behind it. study: what the run is a part of, and point: where in the
    study's grid it lies, {recipe key: value}."""

    run: Name
    study: Name | None = Field(default=None, exclude_if=lambda value: value is None)
    point: dict[str, Any] = Field(default={}, exclude_if=lambda value: not value)
    recipe: str | None = None
    recipe_hash: str | None = None
    overrides: list[str] = []
    commit: str | None = None
    dirty: bool | None = None
    versions: dict[str, str | None] = {}
    hardware: dict[str, Any] = {}
    created: Annotated[str, AfterValidator(iso_date)]


class TrainedOn(Strict):
    """declared: which of the task's splits reached the model's weights, by who submitted the record: roles and not the
    data set's own names; "none" of them, or "unknown". hashes: those splits' fingerprints, of the task's data where the
    record was checked."""

    declared: Annotated[list[Literal["train", "validation", "test", "none", "unknown"]], Field(min_length=1)]
    hashes: dict[str, str] = {}


class Verified(Strict):
    """The model was evaluated again by who took the record in, with the code of `commit`. same_answers: the share of
    questions with the same answer; largest_difference: of any score."""

    date: Annotated[str, AfterValidator(iso_date)]
    commit: str | None
    same_answers: Share
    largest_difference: Amount


class Validation(Strict):
    """The same model on the task's validation split, whose articles are others than the test split's. floor: the best
    constant answer there. hash: that split's fingerprint."""

    scores: Annotated[dict[str, Score], Field(min_length=1)]
    floor: Floor | None = None
    hash: str | None = None


class Trial(Strict):
    """One learning rate that was tried. score: the mean over tasks of `Selection.metric`; None where the training
    failed, and `error` says how."""

    learning_rate: Annotated[float, Field(gt=0)]
    score: Share | None
    error: str | None = None


class Selection(Strict):
    """How the learning rate was chosen: the best of `trials`, all trained with `seed` and scored on `questions`
    questions of `split`."""

    metric: str
    split: Literal["validation"]
    questions: Annotated[int, Field(ge=1)]
    seed: int
    trials: Annotated[list[Trial], Field(min_length=1)]


class Key(NamedTuple):
    run: str
    model: str
    task: str
    seed: int | None


class Record(Strict):
    """validation, selection, curve: of the model, where they are known; curve is (step, training loss)."""

    schema_version: Literal[1] = 1
    model: Model
    task: Task
    method: dict[str, Any] | None = None
    seed: int | None = None
    scores: Annotated[dict[str, Score], Field(min_length=1)]
    floor: Floor | None = None
    cost: Cost = Cost()
    provenance: Provenance
    samples: Name | None = None
    trained_on: TrainedOn | None = None
    verified: Verified | None = None
    validation: Validation | None = None
    selection: Selection | None = None
    curve: (
        Annotated[list[Annotated[list[float], Field(min_length=2, max_length=2)]], Field(max_length=CURVE_POINTS)]
        | None
    ) = None

    @model_serializer(mode="wrap")
    def as_before(self, serialize):
        """Records from before these fields were there keep their bytes."""
        content = serialize(self)
        later = ("trained_on", "verified", "validation", "selection", "curve")
        return {k: v for k, v in content.items() if v is not None or k not in later}

    @model_validator(mode="after")
    def storable(self):
        """Free-form parts (method, hardware, fingerprint) may hold what JSON can't, and the names may be too long
        together."""
        check_plain(self)
        json.dumps(self.model_dump(), allow_nan=False)
        if len(stem(self).encode()) > STEM_BYTES:
            raise ValueError(f"run, model and task name are together longer than {STEM_BYTES} bytes")
        return self

    @property
    def key(self) -> Key:
        return Key(self.provenance.run, self.model.name, self.task.name, self.seed)

    @property
    def saw_its_questions(self) -> bool:
        """Whether the model is declared to be trained on the split that it is measured on."""
        told = self.trained_on
        return told is not None and (self.task.split in told.declared or self.task.split_hash in told.hashes.values())


class Result(NamedTuple):
    """A record and its questions' lines, None where none were kept."""

    record: Record
    samples: list[dict] | None


def stem(record: Record) -> str:
    """The record's file name without its ending: <run>.<model>[.seed<n>].<task>."""
    seed = [] if record.seed is None else [f"seed{record.seed}"]
    return ".".join([record.provenance.run, record.model.name, *seed, record.task.name])
