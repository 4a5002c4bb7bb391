"""TRL's GKD trainer with another batch (prefix trees) and another loss (completion positions, any divergence).

The only module that imports `trl.experimental.gkd`.
"""

import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kd_bench.distill.body import check_model, choose_attention, dense_attention, predicting_states
from kd_bench.distill.collate import PassageSampler, StepSampler, pack_for, share
from kd_bench.distill.completions import sampled
from kd_bench.distill.forward import Unhooked, computing, copy_to_shard, own_forward
from kd_bench.distill.loss import Loss
from kd_bench.distill.sampling import Sampling, Writing
from kd_bench.distill.states import TeacherStates
from kd_bench.errors import DIVERGED, UserError
from kd_bench.harness.prefix_decode import PrefixDecoder
from kd_bench.models.lora import load_lora

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # the minor version is pinned
from trl.experimental.gkd import GKDConfig, GKDTrainer


class DistillTrainer(GKDTrainer):
    """`GKDTrainer` on `features` (prompt and completion ids), with teacher states from a store or a live teacher.

    teacher: a live model, a `TeacherStates` store, or None for a loss without one; `states`: a store beside a live
    teacher, which then runs only over what the student writes. sampling: who writes (see `Sampling`; None: fixed, with
    probability `args.lmbda` by the student); the student's completions are sampled at `args.temperature`, cut after
    `stop`, and need the live teacher. max_tokens: see `PackExamples`.

    In several processes each has its share of a step's questions and runs as many forwards as the others. Gradients
    are those of the whole batch, whose loss is divided by the completion tokens of all processes. The coin of a step
    and the replay buffer are the same in all; the words that students write differ from a single process's. Raises
    UserError for a model that the prefix tree would change, for a loss or gradient that is not finite, and for
    student-written completions under FSDP, where every token would gather the weights in step with other processes.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: nn.Module | TeacherStates | None,
        loss: Loss,
        args: GKDConfig,
        *,
        states: TeacherStates | None = None,
        sampling: Sampling | None = None,
        stop: str = "",
        max_tokens: int | None = None,
        **kw,
    ):
        if isinstance(teacher, TeacherStates):
            teacher, states = None, teacher
        sampling = sampling or Sampling(lmbda=args.lmbda)
        check_model(model)
        if teacher is not None:
            check_model(teacher)
        if sampling.student_writes and teacher is None:
            raise UserError("method.lmbda", "student-written completions need a live teacher beside stored states")
        # TRL compares vocab_size and wants a teacher at all; ours may be a store, wider than the student, or none. The
        # student itself would not do: accelerate would hold it for wrapped already.
        nobody = nn.Module()
        nobody.config = model.config
        with own_forward(model):
            super().__init__(model, teacher_model=nobody, args=args, data_collator=list, **kw)
        for parameter in model.parameters() if getattr(model, "is_quantized", False) else ():
            if parameter.requires_grad:  # TRL rounds a QLoRA's adapters to bfloat16, where small updates are lost
                parameter.data = parameter.data.float()
        if sampling.student_writes and self.is_fsdp_enabled:
            raise UserError("method.lmbda", "student-written completions do not go with FSDP: launch with DDP instead")
        if self.is_fsdp_enabled and not isinstance(model.get_output_embeddings(), nn.Linear):
            raise UserError(
                "FSDP", "a head that is not a plain linear layer (adapters on it?) does not go with it: use DDP"
            )
        self.teacher_model = None if teacher is None else teacher.eval().to(args.device)
        self.teacher_head = None if states is None else states.head().to(args.device)
        if teacher is not None:
            self.teacher_head = self.teacher_model.get_output_embeddings()
            choose_attention(self.teacher_model)
        choose_attention(model)
        how = {"max_tokens": max_tokens, "one_forward": self.is_fsdp_enabled}
        self.data_collator = pack_for(model, states=states.rows if states else None, **how)
        self.collate_unstored = pack_for(model, **how)
        self.token_loss = loss
        self.stop = stop
        self.writing = Writing(sampling, args.seed)
        self.validation_parts: list[dict] | None = None

    def train(self, resume_from_checkpoint: str | None = None, **kw):
        if resume_from_checkpoint:
            self.writing.load(Path(resume_from_checkpoint))
        whole = self.model
        with copy_to_shard(whole) if self.is_fsdp_enabled else nullcontext(whole) as model:
            self.model = self.model_wrapped = model
            with computing(model):
                return super().train(resume_from_checkpoint=resume_from_checkpoint, **kw)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # transformers saves the adapters of a plain model alone, and its trainer reads back only those of a PeftModel.
        if getattr(self.model, "_hf_peft_config_loaded", False):
            load_lora(self.model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_rng_state(self, output_dir: str) -> None:
        # Before the state file, by which a checkpoint is known to be whole, and before older ones are removed.
        super()._save_rng_state(output_dir)
        if self.args.should_save:
            self.writing.save(Path(output_dir))
        self.accelerator.wait_for_everyone()

    def get_train_dataloader(self) -> DataLoader:
        """Not accelerate's, which fills the last batch of an epoch up with examples that were drawn before."""
        args = self.args
        sampler = PassageSampler(self.train_dataset["passage"], args.data_seed or args.seed)
        steps = StepSampler(
            sampler, args.per_device_train_batch_size * args.world_size, args.process_index, args.world_size
        )
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=steps,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
        )
        loader.set_epoch = steps.set_epoch  # where transformers looks for it
        return loader

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The summed loss of a part's completion tokens over its `divisor`, times the processes that wrappers average
        gradients over."""
        compute = partial(self._summed, inputs=inputs)
        processes = self.accelerator.num_processes
        total = model(compute=compute) if processes > 1 else compute(self.accelerator.unwrap_model(model))
        return total * processes / inputs["divisor"]

    def _summed(self, student: nn.Module, inputs: dict) -> Tensor:
        trees, positions = inputs["trees"], inputs["positions"]
        with self.accelerator.autocast():
            states = predicting_states(student, trees, positions)
            teacher_states = inputs.get("teacher_states")
            if teacher_states is None and self.teacher_model is not None:
                with torch.no_grad():
                    teacher_states = predicting_states(self.teacher_model, trees, positions)
            head = student.get_output_embeddings()
            head = Unhooked(head) if self.is_fsdp_enabled else head
            return inputs["token_loss"].total(head, states, self.teacher_head, teacher_states, inputs["labels"])

    def training_step(self, model, inputs, num_items_in_batch=None):
        """The forwards and backwards of one batch, on the completions that are its turn (see `Sampling`)."""
        # A part at a time, forward and backward: no more than `max_tokens` have their activations in memory.
        parts = [
            {**part, "token_loss": loss, "divisor": divisor}
            for batch, loss, divisor in self._batches(model, inputs, num_items_in_batch)
            for part in (batch, *batch["rest"])
        ]
        # Each forward of a wrapped model waits for the other processes': one that has fewer parts adds empty ones.
        idle = int(self._over_processes(len(parts), max)) - len(parts)
        parts += [{**self.data_collator([]), "token_loss": self.token_loss, "divisor": 1} for _ in range(idle)]
        step = super(GKDTrainer, self).training_step
        loss = torch.zeros((), device=self.args.device)
        for index, part in enumerate(parts):
            # FSDP2 would keep whole gradients until it synchronises them.
            quiet = index < len(parts) - 1 and not self.is_fsdp_enabled
            with self.accelerator.no_sync(model) if quiet else nullcontext():
                loss += step(model, part, num_items_in_batch)
        self._require_finite(loss, "loss")
        return loss

    def _batches(self, model, inputs: dict, num_items_in_batch) -> list[tuple[dict, Loss, Tensor | float]]:
        """What a step trains on: (batch, its loss, what the sum of its losses is divided by), one or two of them."""
        sampling, step, steps = self.writing.sampling, self.state.global_step, self.state.max_steps

        def tokens(batch: dict) -> float:
            count = self._over_processes(len(batch["shift_labels"]), sum)
            # The step's token count is of the data's completions; the student's own are averaged a batch at a time.
            return count * (1 if num_items_in_batch is None else self.current_gradient_accumulation_steps)

        given = tokens(inputs) if num_items_in_batch is None else num_items_in_batch
        if sampling.kind == "pair":
            halves = [] if sampling.beta == 2 else [(inputs, self.token_loss, given / (1 - sampling.beta / 2))]
            if sampling.beta:
                own = self.student_writes(model, inputs)
                halves.append((own, sampling.student_loss, tokens(own) / (sampling.beta / 2)))
            return halves
        if sampling.kind == "adaptive" and self.writing.schedule.due(step, steps):
            loss = self.validation_loss(model)
            self._require_finite(loss, "validation loss")
            self.writing.validated(step, loss)
        source = self.writing.source(step, steps)
        if source == "fixed":
            return [(inputs, self.token_loss, given)]
        if source == "fresh":
            own = self.student_writes(model, inputs)
        else:
            rows = share(self.writing.replayed(step), self.args.process_index, self.args.world_size)
            own = self._prepare_inputs(self.collate_unstored(rows))
        return [(own, self.token_loss, tokens(own))]

    @torch.no_grad()
    def validation_loss(self, model) -> float:
        """The mean of `token_loss` over the validation questions' completion tokens, the same in all processes."""
        student = self.accelerator.unwrap_model(model).eval()
        if self.validation_parts is None:
            self.validation_parts = self._validation_parts()
        total, count = 0.0, 0
        for part in self.validation_parts:
            total += float(self._summed(student, {**part, "token_loss": self.token_loss}))
            count += len(part["labels"])
        return self._over_processes(total, sum) / self._over_processes(count, sum)

    def _validation_parts(self) -> list[dict]:
        """The validation questions as batches, with the teacher's states, which it computes but once."""
        sampling, size = self.writing.sampling, self.args.per_device_train_batch_size
        rows = list(sampling.validation.select(range(min(sampling.validation_limit, len(sampling.validation)))))
        rows = share(rows, self.args.process_index, self.args.world_size)
        parts = []
        for start in range(0, len(rows), size):
            batch = self._prepare_inputs(self.collate_unstored(rows[start : start + size]))
            parts += [batch, *batch["rest"]]
        if self.teacher_model is not None:
            with self.accelerator.autocast():
                for part in parts:
                    part["teacher_states"] = predicting_states(self.teacher_model, part["trees"], part["positions"])
        return parts

    @torch.no_grad()
    def student_writes(self, model, inputs: dict) -> dict:
        """The batch with completions sampled from the student for the same prompts, cut after the stop string.

        Adaptive sampling keeps them for later steps.
        """
        prompts = [prompt for part in (inputs, *inputs["rest"]) for prompt in part["prompts"]]
        student = self.accelerator.unwrap_model(model).eval()  # gradient checkpointing would refuse a key-value cache
        seed = self.writing.draws(self.state.global_step, f"words of {self.args.process_index}").getrandbits(63)
        completions: dict[int, list[int]] = {}
        with self.accelerator.autocast(), dense_attention(student):
            decoder = PrefixDecoder(student, self.processing_class)
            generator = torch.Generator(decoder.device).manual_seed(seed)
            choose = sampled(self.args.temperature, generator, self.processing_class)
            if prompts:
                completions |= decoder.decode(
                    prompts,
                    until=[self.stop] if self.stop else [],
                    max_tokens=self.args.max_new_tokens,
                    batch_size=len(prompts),
                    choose=choose,
                )
        rows = [{"prompt": prompt, "completion": completions[i], "index": -1} for i, prompt in enumerate(prompts)]
        if self.writing.sampling.kind == "adaptive":
            self.writing.replay.add(gather_object(rows))
        return self._prepare_inputs(self.collate_unstored(rows))

    def _get_grad_norm(self, model, grad_norm=None):
        norm = super()._get_grad_norm(model, grad_norm)
        if hasattr(norm, "full_tensor"):  # FSDP2's
            norm = norm.full_tensor()
        self._require_finite(norm, "gradient")  # before the optimizer's step, so that no checkpoint holds it
        return norm

    def _require_finite(self, value: Tensor | float, what: str) -> None:
        value = self._over_processes(float(value), sum)  # all stop, or none
        if not torch.isfinite(torch.tensor(value)):
            step = self.state.global_step + 1
            raise UserError(
                DIVERGED,
                f"the {what} is {value} at step {step} of {self.state.max_steps}; the last checkpoint before "
                "it is kept. Try a lower learning rate, a longer warm-up, or float32.",
            )

    def _over_processes(self, value: float, how) -> float:
        """`how` (sum, max) of every process's `value`."""
        if self.accelerator.num_processes == 1:
            return value
        mine = torch.tensor([value], dtype=torch.float64, device=self.args.device)
        return how(self.accelerator.gather(mine).tolist())
