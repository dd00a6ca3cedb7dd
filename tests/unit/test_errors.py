"""The one error a user sees."""

import pickle

import pytest

from recsys_spark.errors import Problem, RecsysError, did_you_mean, problem

FIRST = Problem("table A", wanted="rows", found="none", do="Run it.")
SECOND = Problem("file B", wanted="YAML", found="JSON", do="Mend it.")


def test_a_message_says_where_wanted_found_and_what_to_do():
    assert str(problem("table A", wanted="rows", found="none", do="Run it.")) == (
        "table A: wanted rows; found none. Run it."
    )


def test_every_problem_has_a_line():
    assert str(RecsysError([FIRST, SECOND])) == (
        "table A: wanted rows; found none. Run it.\nfile B: wanted YAML; found JSON. Mend it."
    )


def test_a_message_cannot_steer_a_terminal_whatever_a_source_holds():
    told = str(Problem("file a.csv", wanted="text", found="\x1b[2J\x00\u202egpj", do="Mend it.\nThen again."))
    assert told == "file a.csv: wanted text; found \\x1b[2J\\x00\\u202egpj. Mend it.\nThen again."


def test_problems_cross_process_borders_whole():
    arrived = pickle.loads(pickle.dumps(RecsysError([FIRST, SECOND])))
    assert isinstance(arrived, RecsysError)
    assert arrived.problems == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("top_l", "Did you mean 'top_k'?"),
        ("TOP_K", "Did you mean 'top_k'?"),
        ("xyz", "Known: item_block, top_k."),
    ],
)
def test_a_near_word_is_proposed_else_all_known_ones(word, hint):
    assert did_you_mean(word, ["top_k", "item_block"]) == hint
