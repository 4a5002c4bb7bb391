import pytest

from kd_bench.runs.questions import kinds, question_word


@pytest.mark.parametrize(
    "question, word",
    [
        ("In what year was it built?", "when"),
        ("What was built?", "what"),
        ("The harbour was built by whom?", "who"),
        ("How many ships sailed?", "how many"),
        ("How is it built?", "how"),
        ("To which house does it belong?", "which"),
        ("Name a ship.", "other"),
        ("Wie viele Schiffe fuhren aus?", "how many"),
        ("In welchem Jahr wurde es gebaut?", "when"),
        ("Was wurde gebaut?", "what"),
        ("Wer baute es?", "who"),
        ("Aus welcher Stadt kam sie?", "which"),
    ],
)
def test_the_question_word_in_two_languages(question, word):
    assert question_word(question) == word


def doc(question, golds, words):
    return {"question": question, "context": " ".join(["word"] * words), "answers": {"text": golds}}


def test_kinds_stand_in_their_own_order():
    docs = {
        "a": doc("What?", ["four words and more"], 30),
        "b": doc("Who?", ["one", "not one"], 10),
        "c": doc("When?", [], 20),
    }
    found = kinds(docs)
    assert found["answer length"] == {"b": "1 word", "a": "4 words and more"}
    assert list(found["question word"].items()) == [("b", "who"), ("c", "when"), ("a", "what")]
    assert found["passage length"] == {"b": "under 20 words", "c": "20 to 29 words", "a": "30 words and more"}
    assert kinds({"a": {"question": "?", "choices": []}}) == {}
