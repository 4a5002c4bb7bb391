import pytest
from tokenizers import AddedToken

from kd_bench.errors import UserError
from kd_bench.models.vocabulary import shared_vocabulary
from tests.tiny import EOS, PAD, tiny_tokenizer


def changed(tokenizer, old, new):
    """The tokenizer with one token spelt otherwise, as a different training run would have it."""
    import json

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"][new] = state["model"]["vocab"].pop(old)
    state["model"]["merges"] = [pair for pair in state["model"]["merges"] if old not in ("".join(pair), *pair)]
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), eos_token=EOS, pad_token=PAD)


def test_padded_models_share_what_the_tokenizer_defines():
    assert shared_vocabulary(tiny_tokenizer(), tiny_tokenizer(), 640, 576) == 512
    assert shared_vocabulary(tiny_tokenizer(), tiny_tokenizer(), 576, 640) == 512
    assert shared_vocabulary(tiny_tokenizer(), tiny_tokenizer(), 512, 512) == 512


@pytest.mark.parametrize("teacher_has_more", [True, False])
def test_special_tokens_that_one_side_adds_are_left_out(teacher_has_more):
    plain, more = tiny_tokenizer(), tiny_tokenizer()
    more.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    pair = (more, plain) if teacher_has_more else (plain, more)
    assert shared_vocabulary(*pair, 640, 576) == 512
    assert shared_vocabulary(more, more, 640, 576) == 514


def test_the_first_id_that_differs_is_named_with_both_tokens():
    tokenizer = tiny_tokenizer()
    for i in (300, 400):
        tokenizer = changed(tokenizer, tokenizer.convert_ids_to_tokens(i), f"other{i}")
    with pytest.raises(UserError) as caught:
        shared_vocabulary(tiny_tokenizer(), tokenizer, 512, 512)
    assert f"id 300 is {tiny_tokenizer().convert_ids_to_tokens(300)!r} to the teacher" in str(caught.value)
    assert "'other300' to the student" in str(caught.value) and "400" not in str(caught.value)


def test_added_tokens_are_compared_too():
    teacher, student = tiny_tokenizer(), tiny_tokenizer()
    teacher.add_tokens([AddedToken("<think>", special=True)])
    student.add_tokens([AddedToken("<tool>", special=True)])
    with pytest.raises(UserError, match="id 512 is '<think>' to the teacher and '<tool>' to the student"):
        shared_vocabulary(teacher, student, 640, 640)


def test_a_student_whose_text_needs_ids_the_teacher_lacks_is_refused():
    with pytest.raises(UserError, match=r"id 400 is .* to the student; the teacher's tokenizer ends at id 399"):
        shared_vocabulary(tiny_tokenizer(400), tiny_tokenizer(512), 512, 512)
    with pytest.raises(UserError, match="id 500 is"):
        shared_vocabulary(tiny_tokenizer(), tiny_tokenizer(), 500, 512)
