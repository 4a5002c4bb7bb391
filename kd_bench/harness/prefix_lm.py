"""lm-eval's `hf` model with what requests share computed once: the same answers from fewer tokens.

Prompts of one task begin with the same instructions and demonstration, and many ask about the same passage:
`prefix_decode` reads what they share once.
"""

import inspect
import json
import logging
import time

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm

from kd_bench.harness.prefix_decode import PrefixDecoder
from kd_bench.harness.prefix_groups import Tree, groups

log = logging.getLogger(__name__)

# What a model's generation config may say without changing what greedy decoding writes. (`max_new_tokens` would win
# over the task's own limit in HFLM, so that Qwen2.5's 2048 lets an answer run on: here the task's limit holds.)
HARMLESS = {"bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_p", "top_k", "typical_p"}
HARMLESS |= {"min_p", "max_length", "max_new_tokens", "use_cache", "cache_implementation", "transformers_version"}
HARMLESS |= {"_from_model_config", "output_attentions", "output_hidden_states", "return_dict_in_generate"}


class PrefixLM(HFLM):
    """`HFLM(pretrained=model, tokenizer=tokenizer, batch_size=n)` that computes shared prefixes once.

    Answers are those that HFLM gives with batch size 1, log-likelihoods are equal to rounding. What cannot be packed
    goes HFLM's own way: sampling or beams, and every request of a model whose `unshared` gives a reason (with
    `share=False`, all of them).
    `generated_tokens` counts the tokens written (the one that ends an answer too), `generate_seconds` the time.
    """

    def __init__(self, *args, share: bool = True, **kwargs):
        super().__init__(*args, **kwargs)
        self.generated_tokens = 0
        self.generate_seconds = 0.0
        self.decoder = PrefixDecoder(self.model, self.tokenizer, self.device)
        self.unshared = self._why_unshared() if share else "not asked to"
        if share and self.unshared:
            log.warning("prefixes are not shared, evaluation is slower: %s", self.unshared)

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        started = time.perf_counter()

        def answer(part):
            shareable = not self.unshared and self._is_greedy(part[0].args[1])
            return (self._generate if shareable else self._generate_unshared)(part, disable_tqdm)

        answers = _in_parts(
            requests, lambda r: (r.task_name, json.dumps(r.args[1], sort_keys=True, default=str)), answer
        )
        self.generate_seconds += time.perf_counter() - started
        return answers

    def loglikelihood(self, requests, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        whole = super().loglikelihood
        return _in_parts(requests, lambda r: r.task_name, lambda part: whole(part, disable_tqdm=disable_tqdm))

    def _generate_unshared(self, requests, disable_tqdm: bool) -> list[str]:
        answers = super().generate_until(requests, disable_tqdm)
        # HFLM does not tell how many tokens it wrote: those of the answer, and the one that ended it.
        self.generated_tokens += sum(len(self.tok_encode(text, add_special_tokens=False)) + 1 for text in answers)
        return answers

    def _generate(self, requests, disable_tqdm: bool) -> list[str]:
        arguments = normalize_gen_kwargs(requests[0].args[1], self.max_gen_toks)
        until = handle_stop_sequences(arguments["until"], eos=self.tok_decode(self.eot_token_id, False))
        room = self.max_length - arguments["max_gen_toks"]
        if room <= 0:
            raise ValueError(f"max_gen_toks {arguments['max_gen_toks']} leaves no room in {self.max_length} tokens")
        prompts = [self._encode(request.args[0], room) for request in requests]
        if not all(prompts):  # nothing to pack; what an empty prompt means is HFLM's to say
            return self._generate_unshared(requests, disable_tqdm)
        answers = [""] * len(requests)
        bar = self._bar(len(requests), "generate_until", disable_tqdm)
        decoded = self.decoder.decode(
            prompts,
            until=until,
            max_tokens=arguments["max_gen_toks"],
            batch_size=self.batch_size,
        )
        for index, tokens in decoded:
            self.generated_tokens += len(tokens)
            answers[index] = postprocess_generated_text(self.tok_decode(tokens), stop=until, think_end_token=None)
            self.cache_hook.add_partial("generate_until", requests[index].args, answers[index])
            bar.update()
        bar.close()
        return answers

    def _loglikelihood_tokens(self, requests, disable_tqdm: bool = False, override_bs=None) -> list[tuple[float, bool]]:
        if self.unshared or not isinstance(self.batch_size, int):
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        # The last token is predicted, never read; HFLM drops what does not fit from the left.
        sequences = [(context + choice)[-(self.max_length + 1) :][:-1] for _, context, choice in requests]
        lengths = [len(choice) for _, _, choice in requests]
        past, prefix = self.decoder.prefix(sequences, lengths)

        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        bar = self._bar(len(requests), "loglikelihood", disable_tqdm)
        for group in groups(sequences, past, self.batch_size):
            tree = Tree.of([sequences[index] for index in group], past)
            predicting = [path[-lengths[index] :] for index, path in zip(group, tree.paths)]
            keep, where = torch.cat(predicting).unique(return_inverse=True)
            logits, _ = self.decoder.forward(tree, past, prefix, keep)
            scores = logits.log_softmax(-1, dtype=self.softmax_dtype)
            for index, rows in zip(group, where.split([lengths[index] for index in group])):
                own = scores[rows.to(scores.device)]
                key, _, choice = requests[index]
                choice = torch.tensor(choice, device=own.device)
                greedy = bool((own.argmax(-1) == choice).all())
                answers[index] = (float(own.gather(1, choice[:, None]).sum()), greedy)
                if key is not None:  # parts of a rolling log-likelihood have no key
                    self.cache_hook.add_partial("loglikelihood", key, answers[index])
            bar.update(len(group))
        bar.close()
        return answers

    def _encode(self, text: str, room: int) -> list[int]:
        """The prompt's tokens as HFLM makes them, beginning-of-sequence rules and left truncation included."""
        return self.tok_batch_encode([text], left_truncate_len=room, truncation=self.truncation)[0][0].tolist()

    def _bar(self, total: int, kind: str, disable: bool) -> tqdm:
        return tqdm(total=total, disable=disable or self.rank != 0, desc=f"Running {kind} requests")

    def _is_greedy(self, gen_kwargs: dict) -> bool:
        """Whether these arguments ask for plain greedy decoding, of which `_decode` is all there is."""
        arguments = normalize_gen_kwargs(gen_kwargs, self.max_gen_toks)
        plain = set(arguments) <= {"do_sample", "temperature", "until", "max_gen_toks"} and not arguments["do_sample"]
        changes = set(self.model.generation_config.to_diff_dict()) - HARMLESS  # a repetition penalty, for one
        return plain and not changes and self.think_end_token is None and isinstance(self.batch_size, int)

    def _why_unshared(self) -> str | None:
        """Why this model cannot take packed prompts; None if it can, which is tried out on two short sequences."""
        config = self.model.config.get_text_config(decoder=True)
        attention = config._attn_implementation
        if self.backend != "causal":
            return "it is not a decoder-only model"
        if self.mixed_precision_dtype is not None:
            return "it runs in mixed precision"
        if attention not in ("sdpa", "eager"):
            return f"{attention} attention takes no 4-D mask"
        if _has_windows(config):
            return "it has attention layers that do not see the whole context"
        if "logits_to_keep" not in inspect.signature(self.model.forward).parameters:
            return "it cannot give the logits of chosen positions only"

        one, two = [1, 2, 3, 4, 5], [1, 2, 3, 6, 7, 4]
        try:
            past, prefix = self.decoder.prefix([one, two], [3, 3])
            tree = Tree.of([one, two], past)
            packed, _ = self.decoder.forward(tree, past, prefix, keep=torch.stack([path[-1] for path in tree.paths]))
            with torch.no_grad():
                alone = [self.model(torch.tensor([ids], device=self.device)).logits[0, -1] for ids in (one, two)]
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            return f"its forward pass does not take packed prompts ({type(error).__name__}: {error})"
        error = (packed - torch.stack(alone)).abs().max() / packed.abs().max()
        if not error < torch.finfo(packed.dtype).eps ** 0.5:
            return "packed prompts change its output"
        return None


def _in_parts(requests, key, answer) -> list:
    """`answer` to the requests of each `key` on its own: one task's prompts share more than several tasks' do."""
    parts: dict = {}
    for index, request in enumerate(requests):
        parts.setdefault(key(request), []).append(index)
    answers = [None] * len(requests)
    for indices in parts.values():
        for index, result in zip(indices, answer([requests[index] for index in indices])):
            answers[index] = result
    return answers


def _has_windows(config) -> bool:
    """Whether some layer sees a window only: a given 4-D mask would silently replace it."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return any(kind != "full_attention" for kind in kinds)
    window = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    return bool(window) and getattr(config, "use_sliding_window", True)
