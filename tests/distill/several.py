"""What test_processes starts with `accelerate launch`: trains cases and leaves each process's result and weights."""

import os
import sys
from pathlib import Path

import torch
from accelerate import DistributedType
from accelerate.state import AcceleratorState, PartialState
from datasets import Dataset

from kd_bench.distill import loss as losses
from kd_bench.distill.checkpoint import last_good_checkpoint
from kd_bench.distill.loss import Loss
from kd_bench.distill.states import TeacherStates
from kd_bench.distill.train import train
from kd_bench.errors import UserError
from tests.distill.test_exactness import rows
from tests.distill.test_train import Kill, KillAt, weights
from tests.tiny import tiny_model, tiny_tokenizer

# Adam divides by the root of a gradient's square, so that where it is near 0 rounding moves a weight by as much as the
# learning rate: it is small enough for that to stay within the tolerance of the weights, large enough to move them.
SETTINGS = {"learning_rate": 1e-4, "epochs": 3, "save_steps": 2, "progress": False, "seed": 7, "max_new_tokens": 6}
# 11 questions: the last step of an epoch has one, for which one of two processes has none; parts are unequally many.
WHOLE = {"batch_size": 10}
PARTS = {"batch_size": 10, "max_tokens": 50}
OWN = {"batch_size": 4, "max_tokens": 50}
ODD = {"batch_size": 5}
EXACT = {
    "llama": WHOLE,
    "llama tied in parts": PARTS,
    "gpt2 stored": PARTS,
    "qwen2 killed": PARTS,
}
WRITTEN = {
    "lmbda": {**OWN, "lmbda": 0.5},
    "pair": {**OWN, "sampling": "pair", "student_loss": Loss("skew_reverse_kl")},
    "adaptive": {**OWN, "sampling": "adaptive", "margin": -10.0, "validation_limit": 5},
    "odd": ODD,
    "adaptive killed": {**OWN, "sampling": "adaptive", "margin": -10.0, "validation_limit": 5},
}


def trained(name: str, folder: Path) -> dict:
    """One case: {"result", "weights", "moved"} of this process. `killed` ones are killed once and go on."""
    settings = {**SETTINGS, **{**EXACT, **WRITTEN}[name]}
    architecture = name.split()[0] if name in EXACT else "llama"
    student = tiny_model(architecture, seed=3, tie_word_embeddings="tied" in name)
    before = weights(student)
    teacher = tiny_model("llama", layers=3, seed=1)
    if "stored" in name:
        teacher = TeacherStates(folder / "states")
    if settings.get("sampling") == "adaptive":
        settings["validation"] = Dataset.from_list(rows(1))

    def run(**more):
        found = Dataset.from_list(rows())
        return train(student, tiny_tokenizer(), found, Loss("jsd"), folder / name, teacher=teacher, **settings, **more)

    if "killed" in name:
        try:
            run(callbacks=[KillAt(3)])
        except Kill:
            assert last_good_checkpoint(folder / name / "checkpoints").endswith("checkpoint-2")
            student = tiny_model(architecture, seed=3)
    result = run()
    return {"result": result, "weights": weights(student), "moved": float((weights(student) - before).norm())}


def shard_on_a_cpu() -> None:
    """accelerate drops `--use_fsdp` on a CPU and makes it DDP; torch shards there as well. As its GPU branch does."""
    own = AcceleratorState.__init__

    def init(self, *args, fsdp_plugin=None, **kw):
        own(self, *args, fsdp_plugin=fsdp_plugin, **kw)
        if fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = init


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    if os.environ.get("ACCELERATE_USE_FSDP"):
        shard_on_a_cpu()
        losses.CHUNK_LOGITS = 512 * 3  # the head goes several times through a step
    for name in names:
        try:
            found = trained(name, folder)
        except UserError as error:
            found = str(error)
        torch.save(found, folder / f"{name}.{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main()
