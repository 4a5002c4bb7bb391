"""Whether a teacher and a student speak of the same tokens, and how many of them."""

from typing import TYPE_CHECKING

from kd_bench.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def shared_vocabulary(
    teacher_tokenizer: "PreTrainedTokenizerBase",
    student_tokenizer: "PreTrainedTokenizerBase",
    teacher_size: int,
    student_size: int,
) -> int:
    """n such that ids [0, n) are the same tokens to both; losses are taken over those logits of both models alone.

    teacher_size, student_size: the rows of each model's output layer, often padded past the tokenizer (Qwen2.5: 152,064
    at 7B, 151,936 at 0.5B, 151,665 tokens). n ends with the last id that both tokenizers define and both models have:
    beyond it at least one side's logits stand for nothing. Tokens are compared, added ones included; merges are not,
    since it is ids that the models are fed.

    Raises UserError naming the first id that is not the same token to both, or a token of the student's plain
    vocabulary that lies past n: text would become ids that the teacher does not have.
    """
    teacher, student = _tokens(teacher_tokenizer), _tokens(student_tokenizer)
    n = min(max(teacher) + 1, max(student) + 1, teacher_size, student_size)
    where = "teacher and student"
    for i in range(n):
        if teacher.get(i) != student.get(i):
            raise UserError(
                where,
                f"different tokenizers: id {i} is {_name(teacher, i)} to the teacher and {_name(student, i)} to the "
                "student. Choose a student of the teacher's family: their losses compare probabilities id by id",
            )
    added = set(student_tokenizer.added_tokens_decoder)
    past = min((i for i in student if i >= n and i not in added), default=None)
    if past is not None:
        short = (
            f"the teacher's tokenizer ends at id {max(teacher)}, its logits at {teacher_size - 1}, the student's at "
        )
        raise UserError(
            where,
            f"different vocabularies: id {past} is {_name(student, past)} to the student; {short}{student_size - 1}",
        )
    return n


def _tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[int, str]:
    return {i: token for token, i in tokenizer.get_vocab().items()}


def _name(tokens: dict[int, str], i: int) -> str:
    return repr(tokens[i]) if i in tokens else "nothing"
