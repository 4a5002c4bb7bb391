"""What a task's name tells: kd-bench names its tasks <data set>_kd[_<language>]_<prompt setting>."""

import re

SHOTS = {0: "zero-shot", 1: "one-shot"}
OURS = re.compile(r"(?P<data>.+?)_kd(?:_(?P<language>[a-z]{2}))?(?:_(?:zero|one)shot)?")


def data_set(task: str) -> str:
    """squad_kd_oneshot -> squad; of a task of somebody else's, its name without the prompt setting."""
    ours = OURS.fullmatch(task)
    return ours["data"] if ours else re.sub(r"_(zero|one)shot$", "", task)


def language(task: str) -> str | None:
    """mlqa_kd_de_oneshot -> de. kd-bench's tasks that name none are English; of others it is not known."""
    ours = OURS.fullmatch(task)
    return (ours["language"] or "en") if ours else None


def prompt_setting(num_fewshot: int) -> str:
    return SHOTS.get(num_fewshot, f"{num_fewshot}-shot")
