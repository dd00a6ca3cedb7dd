"""No pattern takes longer than in proportion to its text, whatever strangers write."""

import time

import pytest

from tests.patterns import Pattern, all_patterns, go_through, slowest_texts

PATTERNS = all_patterns()


def test_patterns_of_all_layers_and_both_engines_are_found():
    found = {(pattern.place.split(":")[0], pattern.is_java) for pattern in PATTERNS}
    assert {
        ("recsys_spark.seen_rules", False), ("recsys_spark.kernels.item_text", False),
        ("recsys_spark.bridges.snapshot", False), ("recsys_spark.transforms.history", True),
    } <= found  # fmt: skip


@pytest.mark.timeout(30)  # all of them together need seconds, one that is quadratic needs minutes
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.place)
def test_no_pattern_is_slow_on_its_worst_text(pattern):
    for text in slowest_texts(pattern, length=300_000):
        go_through(pattern, text)


@pytest.mark.parametrize("slow", [r"[\s,;:|/]+$", r"[^/]*$", r"<[^>]*>", r"\[FAILED.*?reading file", r"\s+\S*x"])
def test_the_worst_text_of_a_quadratic_pattern_is_found(slow):
    pattern = Pattern("here", slow, is_java=False)

    def seconds(length):
        """Of the slowest of a few: which one is told at 1,000 characters, where the machine's other work counts."""
        times = []
        for text in slowest_texts(pattern, length=length):
            started = time.perf_counter()
            go_through(pattern, text)
            times.append(time.perf_counter() - started)
        return max(times)

    assert seconds(16_000) > 16 * min(seconds(2_000) for _ in range(3)), "8 times the text takes 64 times as long"
