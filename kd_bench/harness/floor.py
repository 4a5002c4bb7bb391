"""The floor of a task: what a model scores that writes the same answer to every question.

On SQuAD v2, where half the questions have no answer, always abstaining scores 0.5, and a student that "keeps 82 % of
its teacher" may have learnt no more than that. So every record has its floor beside it.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from kd_bench.harness.metrics import ABSTENTION, NORMALISE

# Beyond the first few, an answer is right once or twice in a thousand questions.
WHOLE_ANSWERS = 8
SINGLE_WORDS = 8


def candidates(docs: list[dict], normalise: Callable[[str], str]) -> list[str]:
    """The constant answers worth trying, best guess first; never empty and without repetition.

    They are the abstention, the most frequent gold answers and the most frequent words in gold answers, each counted
    once a document. The most frequent normalised gold is the constant answer of highest exact match, among those that
    answer at all; for F1 and ROUGE-L, which also pay for a part, the set is a good bounded one and not the proven best.
    """
    answers, words = Counter(), Counter()
    for doc in docs:
        golds = {gold for text in doc["answers"]["text"] if (gold := normalise(text))}
        answers.update(sorted(golds))  # sorted: equal counts keep the order in which they came, on every machine
        words.update(sorted({word for gold in golds for word in gold.split()}))
    frequent = [*answers.most_common(WHOLE_ANSWERS), *words.most_common(SINGLE_WORDS)]
    return list(dict.fromkeys([ABSTENTION, *(answer for answer, _ in frequent)]))


def constant_scores(
    process_results: Callable[[dict, list[str]], dict], docs: Iterable[dict], answer: str
) -> dict[str, float]:
    """Each metric's mean when `answer` is given to every document, over the documents that have that metric."""
    sums, counts = Counter(), Counter()
    for doc in docs:
        for metric, value in process_results(doc, [answer]).items():
            sums[metric] += value
            counts[metric] += 1
    return {metric: sums[metric] / counts[metric] for metric in sums}


def floor(process_results: Callable[[dict, list[str]], dict], docs: Iterable[dict], metric: str = "f1") -> dict:
    """{"answer": the best constant answer, "scores": {metric: its mean on `docs`, in [0, 1]}}.

    process_results: (doc, [text]) -> {metric: value}, as the task scores a generated text. docs: documents with
    answers: {"text": [...]}. The answer is the candidate of highest `metric` (a tie goes to abstaining, then to the
    more frequent), and the scores of every metric are that one answer's: the floor of a table's row is one behaviour,
    not the best of several. Raises ValueError if there are no documents.
    """
    docs = list(docs)
    if not docs:
        raise ValueError("there is no floor without documents")
    normalise = NORMALISE.get(process_results, lambda text: " ".join(text.lower().split()))
    best = None
    for answer in candidates(docs, normalise):
        scores = constant_scores(process_results, docs, answer)
        if best is None or scores[metric] > best["scores"][metric]:
            best = {"answer": answer, "scores": scores}
    return best
