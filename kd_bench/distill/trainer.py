"""TRL's GKD trainer with another batch (prefix trees) and another loss (completion positions, any divergence).

The only module that imports `trl.experimental.gkd`.
"""

import os
import random

import torch
from torch import Tensor, nn

from kd_bench.distill.body import check_model, choose_attention, dense_attention, predicting_states
from kd_bench.distill.collate import PassageSampler, pack_for
from kd_bench.distill.loss import Loss
from kd_bench.distill.states import TeacherStates
from kd_bench.errors import UserError
from kd_bench.harness.prefix_decode import PrefixDecoder

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # the minor version is pinned
from trl.experimental.gkd import GKDConfig, GKDTrainer


class DistillTrainer(GKDTrainer):
    """`GKDTrainer` on `features` (prompt and completion ids), with teacher states from a store or a live teacher.

    teacher: a live model, a `TeacherStates` store, or None for a loss without one. With probability `args.lmbda` a
    batch's completions are the student's own (GKD, arXiv 2306.13649, algorithm 1), which needs the live teacher;
    they are sampled at `args.temperature` and cut after `stop`. max_tokens: see `PackExamples`. Raises UserError for a
    model that the prefix tree would change, for a loss or gradient that is not finite, and for more than one process.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: nn.Module | TeacherStates | None,
        loss: Loss,
        args: GKDConfig,
        *,
        stop: str = "",
        max_tokens: int | None = None,
        **kw,
    ):
        check_model(model)
        if isinstance(teacher, nn.Module):
            check_model(teacher)
        if args.world_size > 1:
            raise UserError("training", "several processes are not supported yet: start one")
        if args.lmbda and not isinstance(teacher, nn.Module):
            raise UserError("method.lmbda", "student-written completions need a live teacher: turn stored states off")
        states = teacher if isinstance(teacher, TeacherStates) else None
        # TRL compares vocab_size and wants a teacher at all; ours may be a store, wider than the student, or none.
        super().__init__(model, teacher_model=model, args=args, data_collator=list, **kw)
        self.teacher_model = teacher.eval().to(args.device) if isinstance(teacher, nn.Module) else None
        self.teacher_head = states.head().to(args.device) if states else None
        if self.teacher_model is not None:
            self.teacher_head = self.teacher_model.get_output_embeddings()
            choose_attention(self.teacher_model)
        choose_attention(model)
        self.data_collator = pack_for(model, states=states.rows if states else None, max_tokens=max_tokens)
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
            states = predicting_states(unwrapped, trees, positions)
            teacher_states = inputs.get("teacher_states")
            if self.teacher_model is not None:
                with torch.no_grad():
                    teacher_states = predicting_states(self.teacher_model, trees, positions)
            head = unwrapped.get_output_embeddings()
            total = self.token_loss.total(head, states, self.teacher_head, teacher_states, inputs["labels"])
        if num_items_in_batch is None or inputs["student_wrote"]:
            # The step's token count is of the data's completions; the student's own are averaged a batch at a time.
            tokens = len(inputs["shift_labels"])
            return total / (tokens * (self.current_gradient_accumulation_steps if self.model.training else 1))
        return total / num_items_in_batch

    def training_step(self, model, inputs, num_items_in_batch=None):
        """One forward and backward; with probability `lmbda` on completions that the student writes first."""
        if self.lmbda and random.random() <= self.lmbda:
            inputs = self.student_writes(model, inputs)
        # A part at a time, forward and backward: no more than `max_tokens` have their activations in memory.
        parts = [inputs, *inputs["rest"]]
        whole = {"shift_labels": inputs["shift_labels"], "student_wrote": "student_wrote" in inputs}
        step = super(GKDTrainer, self).training_step
        loss = sum(step(model, {**part, **whole}, num_items_in_batch) for part in parts)
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

    @torch.no_grad()
    def student_writes(self, model, inputs: dict) -> dict:
        """The batch with completions sampled from the student for the same prompts, cut after the stop string."""
        prompts = [prompt for part in (inputs, *inputs["rest"]) for prompt in part["prompts"]]
        student = self.accelerator.unwrap_model(model).eval()  # gradient checkpointing would refuse a key-value cache

        def sample(logits: Tensor) -> list[int]:
            return torch.multinomial((logits / self.args.temperature).softmax(-1), 1)[:, 0].tolist()

        with self.accelerator.autocast(), dense_attention(student):
            decoded = PrefixDecoder(student, self.processing_class).decode(
                prompts,
                until=[self.stop] if self.stop else [],
                max_tokens=self.args.max_new_tokens,
                batch_size=len(prompts),
                choose=sample,
            )
            completions = dict(decoded)
        rows = [{"prompt": prompt, "completion": completions[i], "index": -1} for i, prompt in enumerate(prompts)]
        return {**self._prepare_inputs(self.data_collator(rows)), "student_wrote": True}
