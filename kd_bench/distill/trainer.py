"""TRL's GKD trainer with another batch (prefix trees) and another loss (completion positions, any divergence).

The only module that imports `trl.experimental.gkd`.
"""

import os
import random
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_bench.distill.body import check_model, keys_per_token, predicting_states
from kd_bench.distill.collate import PackExamples, PassageSampler
from kd_bench.distill.divergences import DIVERGENCES
from kd_bench.distill.states import TeacherStates
from kd_bench.errors import UserError

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # the minor version is pinned
from trl.experimental.gkd import GKDConfig, GKDTrainer
from trl.models.utils import unwrap_model_for_generation


@dataclass(frozen=True)
class Loss:
    """(1 - cross_entropy) T^2 D(softmax(z_teacher / T), softmax(z_student / T)) + cross_entropy CE(reference).

    `divergence` names D in `DIVERGENCES` with its `settings` (`beta`, `skew`); None is plain cross-entropy (`sft`).
    The factor T^2 keeps the gradient's size as the temperature rises (Hinton et al. 2015, arXiv 1503.02531, section 2).
    D sees the first `vocabulary` ids, those that teacher and student share (None: all); cross-entropy sees every id of
    the student.
    """

    divergence: str | None = None
    settings: dict = field(default_factory=dict)
    temperature: float = 1.0
    cross_entropy: float = 0.0
    vocabulary: int | None = None

    def __call__(self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        """[n]: the loss of each completion token, from [n, vocab] logits and [n] labels."""
        weight = 1.0 if self.divergence is None else self.cross_entropy
        loss = student_logits.new_zeros(len(labels), dtype=torch.promote_types(student_logits.dtype, torch.float32))
        if weight:
            loss = weight * F.cross_entropy(student_logits.to(loss.dtype), labels, reduction="none")
        if weight < 1:
            scale = self.temperature
            student, teacher = (z[:, : self.vocabulary] / scale for z in (student_logits, teacher_logits))
            distance = DIVERGENCES[self.divergence](student, teacher, **self.settings)
            loss = loss + (1 - weight) * scale**2 * distance
        return loss


class DistillTrainer(GKDTrainer):
    """`GKDTrainer` on `features` (prompt and completion ids), with teacher states from a store or a live teacher.

    teacher: a live model, a `TeacherStates` store, or None for a loss without one. With probability `args.lmbda` a
    batch's completions are the student's own (GKD, arXiv 2306.13649, algorithm 1), which needs the live teacher;
    they are sampled at `args.temperature` and cut after `stop`. Raises UserError for a model that the prefix tree
    would change, for a loss or gradient that is not finite, and for more than one process.
    """

    def __init__(self, model, teacher: nn.Module | TeacherStates | None, loss: Loss, args: GKDConfig, *, stop="", **kw):
        check_model(model)
        if isinstance(teacher, nn.Module):
            check_model(teacher)
        if args.world_size > 1:
            raise UserError("training", "several processes are not supported yet: start one")
        if args.lmbda and not isinstance(teacher, nn.Module):
            raise UserError("method.lmbda", "student-written completions need a live teacher: turn stored states off")
        states = teacher if isinstance(teacher, TeacherStates) else None
        kw.setdefault("data_collator", PackExamples(states.rows if states else None, keys_per_token(model)))
        # TRL compares vocab_size and wants a teacher at all; ours may be a store, wider than the student, or none.
        super().__init__(model, teacher_model=model, args=args, **kw)
        self.teacher_model = teacher.eval().to(args.device) if isinstance(teacher, nn.Module) else None
        self.teacher_head = states.head().to(args.device) if states else None
        if self.teacher_model is not None:
            self.teacher_head = self.teacher_model.get_output_embeddings()
        self.token_loss = loss
        self.stop = stop

    def _get_train_sampler(self, train_dataset=None):
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        return PassageSampler(dataset["passage"], self.args.data_seed or self.args.seed)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The mean of `token_loss` over the optimizer step's completion tokens."""
        unwrapped = self.accelerator.unwrap_model(model)
        trees, positions = inputs["trees"], inputs["positions"]
        with self.accelerator.autocast():
            logits = unwrapped.get_output_embeddings()(predicting_states(unwrapped, trees, positions))
            teacher_logits = None
            if self.teacher_head is not None:
                with torch.no_grad():
                    states = inputs.get("teacher_states")
                    if states is None:
                        states = predicting_states(self.teacher_model, trees, positions)
                    teacher_logits = self.teacher_head(states.to(self.teacher_head.weight.dtype))
        total = self.token_loss(logits, teacher_logits, inputs["labels"]).sum()
        if num_items_in_batch is None or inputs.get("student_wrote"):
            # The step's token count is of the data's completions; the student's own are averaged a batch at a time.
            return total / (len(positions) * (self.current_gradient_accumulation_steps if self.model.training else 1))
        return total / num_items_in_batch

    def training_step(self, model, inputs, num_items_in_batch=None):
        """One forward and backward; with probability `lmbda` on completions that the student writes first."""
        if self.lmbda and random.random() <= self.lmbda:
            inputs = self.student_writes(model, inputs)
        loss = super(GKDTrainer, self).training_step(model, inputs, num_items_in_batch)
        self._require_finite(loss, "loss")
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        norm = super()._get_grad_norm(model, grad_norm)
        self._require_finite(norm, "gradient")  # before the optimizer's step, so that no checkpoint holds it
        return norm

    def _require_finite(self, value: Tensor | float, what: str) -> None:
        if not torch.isfinite(torch.as_tensor(value)).all():
            step = self.state.global_step + 1
            raise UserError(
                "training",
                f"the {what} is {float(value)} at step {step} of {self.state.max_steps}; the last checkpoint before "
                "it is kept. Try a lower learning rate, a longer warm-up, or float32.",
            )

    def student_writes(self, model, inputs: dict) -> dict:
        """The batch with completions sampled from the student for the same prompts, cut after the stop string."""
        prompts = inputs["prompts"]
        pad = self.processing_class.pad_token_id
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        padded = {"prompts": ids.to(self.args.device), "prompt_attention_mask": mask.to(self.args.device)}
        with unwrap_model_for_generation(model, self.accelerator, generation_kwargs=self.generation_kwargs) as student:
            _, _, labels = self.generate_on_policy_outputs(student, padded, self.generation_config)
        completions = [self._until_stop(row[row != -100].tolist()) for row in labels]
        rows = [{"prompt": p, "completion": c, "index": -1} for p, c in zip(prompts, completions)]
        batch = PackExamples(keys_per_token=keys_per_token(self.model))(rows)
        return {**self._prepare_inputs(batch), "student_wrote": True}

    def _until_stop(self, ids: list[int]) -> list[int]:
        if self.stop:
            for end in range(1, len(ids) + 1):
                if self.stop in self.processing_class.decode(ids[:end]):
                    return ids[:end]
        return ids
