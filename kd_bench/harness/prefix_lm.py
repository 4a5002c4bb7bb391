"""lm-eval's `hf` model with what requests share computed once: the same answers from fewer tokens.

Prompts of one task begin with the same instructions and demonstration, and many ask about the same passage. What all
requests share is computed once for the run; requests that share more are packed as a prefix tree (`kd_bench.packing`)
and go through the model in one pass. Their answers are then written side by side in that same packed row: each new
token sees its own path through the tree and its own earlier tokens, so keys and values are never copied out for a
branch, and a branch that has ended costs nothing.
"""

import inspect
import json
import logging
import time
from collections import deque
from collections.abc import Iterator

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm
from transformers import DynamicCache

from kd_bench.harness.prefix_groups import Tree, groups
from kd_bench.packing import common_prefix

log = logging.getLogger(__name__)

# What a model's generation config may say without changing what greedy decoding writes. (`max_new_tokens` would win
# over the task's own limit in HFLM, so that Qwen2.5's 2048 lets an answer run on: here the task's limit holds.)
HARMLESS = {"bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_p", "top_k", "typical_p"}
HARMLESS |= {"min_p", "max_length", "max_new_tokens", "use_cache", "cache_implementation", "transformers_version"}
HARMLESS |= {"_from_model_config", "output_attentions", "output_hidden_states", "return_dict_in_generate"}

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]  # a layer each; [1, heads, tokens, head width]


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
        past, prefix = self._prefix(prompts, [1] * len(prompts))

        answers = [""] * len(requests)
        bar = self._bar(len(requests), "generate_until", disable_tqdm)
        for index, tokens in self._decode(prompts, past, prefix, until, arguments["max_gen_toks"]):
            self.generated_tokens += len(tokens)
            answers[index] = postprocess_generated_text(self.tok_decode(tokens), stop=until, think_end_token=None)
            self.cache_hook.add_partial("generate_until", requests[index].args, answers[index])
            bar.update()
        bar.close()
        return answers

    def _decode(
        self, prompts, past: int, prefix: KeysValues, until, max_tokens: int
    ) -> Iterator[tuple[int, list[int]]]:
        """(index, tokens) of each prompt's greedy continuation, stop string included, as they end.

        A group of prompts joins as soon as so many branches have ended that the batch has room for all of it.
        """
        ends = self._end_tokens()
        # A string of n bytes spans at most n tokens, whatever way the model came to spell it.
        window = max(len(text.encode()) for text in until) + 2
        waiting = deque(groups(prompts, past, self.batch_size))
        written: dict[int, list[int]] = {}  # of the branches that have not ended
        following: list[int] = []  # the next token of each
        cache, visible = _cache(prefix), torch.ones(0, past, dtype=torch.bool)  # visible: [branches, keys]
        while waiting or written:
            while waiting and len(written) + len(waiting[0]) <= self.batch_size:
                group = waiting.popleft()
                tree = Tree.of([prompts[index] for index in group], past)
                logits, new = self._forward(tree, past, prefix, keep=torch.stack([path[-1] for path in tree.paths]))
                cache, visible = _join(cache, visible, tree, past, prefix, new)
                written |= {index: [] for index in group}
                following += logits.float().argmax(-1).tolist()

            for tokens, token in zip(written.values(), following):
                tokens.append(token)
            tails = self.tokenizer.batch_decode([tokens[-window:] for tokens in written.values()])
            ended = [
                tokens[-1] in ends or len(tokens) >= max_tokens or any(text in tail for text in until)
                for tokens, tail in zip(written.values(), tails)
            ]
            yield from (item for item, done in zip(written.items(), ended) if done)
            written = {index: tokens for (index, tokens), done in zip(written.items(), ended) if not done}
            visible = torch.cat([visible[~torch.tensor(ended)], torch.eye(len(written), dtype=torch.bool)], dim=1)
            following = self._step(prompts, written, visible, cache) if written else []

    def _step(self, prompts, written: dict[int, list[int]], visible: torch.Tensor, cache: DynamicCache) -> list[int]:
        """The token after the last one of each branch; the last ones are read here, all in one row."""
        tokens = [tokens[-1] for tokens in written.values()]
        positions = [len(prompts[index]) + len(tokens) - 1 for index, tokens in written.items()]
        with torch.no_grad():
            logits = self.model(
                input_ids=torch.tensor([tokens], device=self.device),
                position_ids=torch.tensor([positions], device=self.device),
                attention_mask=self._mask(visible),
                past_key_values=cache,
                use_cache=True,
            ).logits
        return logits[0].float().argmax(-1).tolist()

    def _loglikelihood_tokens(self, requests, disable_tqdm: bool = False, override_bs=None) -> list[tuple[float, bool]]:
        if self.unshared or not isinstance(self.batch_size, int):
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        # The last token is predicted, never read; HFLM drops what does not fit from the left.
        sequences = [(context + choice)[-(self.max_length + 1) :][:-1] for _, context, choice in requests]
        lengths = [len(choice) for _, _, choice in requests]
        past, prefix = self._prefix(sequences, lengths)

        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        bar = self._bar(len(requests), "loglikelihood", disable_tqdm)
        for group in groups(sequences, past, self.batch_size):
            tree = Tree.of([sequences[index] for index in group], past)
            predicting = [path[-lengths[index] :] for index, path in zip(group, tree.paths)]
            keep, where = torch.cat(predicting).unique(return_inverse=True)
            logits, _ = self._forward(tree, past, prefix, keep)
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

    def _prefix(self, sequences: list[list[int]], needed: list[int]) -> tuple[int, KeysValues]:
        """How many leading tokens all sequences share, and those tokens' keys and values.

        The last `needed[i]` tokens of sequence i are left out of it, since what the model says there is asked for.
        """
        past = common_prefix(min(sequences), max(sequences))
        past = min(past, *(len(sequence) - count for sequence, count in zip(sequences, needed)))
        if past == 0 or len(sequences) == 1:
            return 0, []
        tree = Tree.of([sequences[0][:past]], past=0)
        return past, self._forward(tree, 0, [], keep=torch.tensor([past - 1]))[1]

    def _forward(
        self, tree: Tree, past: int, prefix: KeysValues, keep: torch.Tensor
    ) -> tuple[torch.Tensor, KeysValues]:
        """Logits [len(keep), vocabulary] at the columns `keep` of `tree`, and the tree's own keys and values."""
        cache = _cache(prefix)
        visible = torch.cat([tree.visible.new_ones(len(tree.visible), past), tree.visible], dim=1)
        with torch.no_grad():
            logits = self.model(
                input_ids=tree.input_ids[None].to(self.device),
                position_ids=tree.position_ids[None].to(self.device),
                attention_mask=self._mask(visible),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=keep.to(self.device),
            ).logits
        return logits[0], [(layer.keys[:, :, past:], layer.values[:, :, past:]) for layer in cache.layers]

    def _mask(self, visible: torch.Tensor) -> torch.Tensor:
        """Additive mask [1, 1, queries, keys]: float, since transformers' `eager` attention adds what it is given."""
        dtype = self.model.dtype
        mask = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)
        return mask[None, None].to(self.device)

    def _encode(self, text: str, room: int) -> list[int]:
        """The prompt's tokens as HFLM makes them, beginning-of-sequence rules and left truncation included."""
        return self.tok_batch_encode([text], left_truncate_len=room, truncation=self.truncation)[0][0].tolist()

    def _end_tokens(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        return set() if ends is None else set(ends) if isinstance(ends, list) else {ends}

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
            past, prefix = self._prefix([one, two], [3, 3])
            tree = Tree.of([one, two], past)
            packed, _ = self._forward(tree, past, prefix, keep=torch.stack([path[-1] for path in tree.paths]))
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


def _cache(layers) -> DynamicCache:
    cache = DynamicCache()
    for index, (keys, values) in enumerate(layers):
        cache.update(keys, values, index)
    return cache


def _join(
    cache: DynamicCache, visible: torch.Tensor, tree: Tree, past: int, prefix: KeysValues, new: KeysValues
) -> tuple[DynamicCache, torch.Tensor]:
    """`cache` and `visible` with the branches of `tree` added; keys that no branch sees any more are dropped."""
    if len(visible):
        live = visible.any(0)
        index = live.nonzero()[:, 0].to(new[0][0].device)
        kept = [(layer.keys.index_select(2, index), layer.values.index_select(2, index)) for layer in cache.layers]
        visible = visible[:, live]
    else:
        kept, visible = prefix, visible[:, :past]
    rows = torch.zeros(len(tree.paths), visible.shape[1] + len(tree.input_ids), dtype=torch.bool)
    rows[:, :past] = True  # what all share stands first
    for row, path in zip(rows, tree.paths):
        row[visible.shape[1] + path] = True
    padding = torch.zeros(len(visible), len(tree.input_ids), dtype=torch.bool)
    layers = [[torch.cat(parts, dim=2) for parts in zip(*layer)] for layer in zip(*filter(None, [kept, new]))]
    return _cache(layers), torch.cat([torch.cat([visible, padding], dim=1), rows])


def _has_windows(config) -> bool:
    """Whether some layer sees a window only: a given 4-D mask would silently replace it."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return any(kind != "full_attention" for kind in kinds)
    window = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    return bool(window) and getattr(config, "use_sliding_window", True)
