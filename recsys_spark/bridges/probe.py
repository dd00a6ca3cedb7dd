"""Which back end encodes the texts: chosen once, on the driver, from what it measures on texts of the job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.model_files import open_model
from recsys_spark.errors import problem
from recsys_spark.kernels.back_ends import BACK_ENDS, FLOAT32, BackEnd, Trial, available, fastest_exact, try_out

# So many that a loss in one text of a hundred shows in 92 of 100 samples (in 73 of 100 batches of 131).
# With the full batch, four back ends take 2.5 s more than on one batch where texts have 16 tokens; where they are long,
# the tokens are those of four batches of the default size, and take 5 s more.
_SAMPLE_TEXTS: Final = 256
_SAMPLE_TOKENS: Final = 8192
_AUTO: Final = "auto"


@dataclass(frozen=True)
class Choice:
    """A back end's name, and what the log says about it."""

    name: str
    note: str


def choose_back_end(
    wanted: str, item_text: DataFrame, standing: DataFrame, *, model_name: str, batch_tokens: int
) -> Choice:
    """The back end named by `wanted`; `auto`: the one that `standing` was made with, else the best of a probe.

    What stands decides first, or a timing that falls out differently would embed the whole catalogue again. Workers
    are told the name: none chooses for itself, so all vectors of a slice are alike. The driver measures, so it has
    to be a machine like the workers; where it is not, name the back end.
    """
    here = {back_end.name: back_end for back_end in available(BACK_ENDS)}
    if wanted not in (_AUTO, *here):
        raise problem(
            "configuration, embed.back_end",
            wanted=f"{_AUTO}, or what this processor can do: {', '.join(here)}",
            found=wanted,
            do="Take another one, or run on a machine that has it.",
        )
    by_itself = {name: back_end for name, back_end in here.items() if back_end.by_itself}
    stood_by = [row[0] for row in standing.select(c.BACK_END).distinct().limit(2).collect()]
    if wanted == _AUTO and len(stood_by) == 1 and stood_by[0] in by_itself:
        return Choice(stood_by[0], f"texts are encoded by {stood_by[0]}, as those that stand were")
    if wanted == _AUTO:
        trials = _try_on_texts(item_text, list(by_itself.values()), model_name, batch_tokens)
        best = fastest_exact(trials)
        found = f"{'; '.join(map(str, trials))} (cosines of {best.num_texts} texts)"
        return Choice(best.name, f"texts are encoded by {best.name}, of {found}")
    if wanted == FLOAT32:
        return Choice(FLOAT32, f"texts are encoded by {FLOAT32}, as configured")
    exact, named = _try_on_texts(item_text, [here[FLOAT32], here[wanted]], model_name, batch_tokens)
    faster = f"{named.texts_per_second / exact.texts_per_second:.1f} times as fast"
    loss = f"cosine with {FLOAT32} >= {named.min_cosine:.5f}, {named.mean_cosine:.5f} on average"
    found = f"{faster}, {loss}{named.warning} (cosines of {named.num_texts} texts)"
    return Choice(wanted, f"texts are encoded by {wanted}, as configured: {found}")


def _try_on_texts(item_text: DataFrame, back_ends: list[BackEnd], model_name: str, batch_tokens: int) -> list[Trial]:
    """Trials on some of the catalogue's distinct texts: those with the smallest hashes, which are random."""
    chosen = item_text.select(c.TEXT_HASH).distinct().orderBy(c.TEXT_HASH).limit(_SAMPLE_TEXTS)
    rows = (
        item_text.join(F.broadcast(chosen), on=[c.TEXT_HASH], how="left_semi")
        .groupBy(c.TEXT_HASH)
        .agg(F.first(c.TOKEN_IDS).alias(c.TOKEN_IDS), F.first(c.NUM_TOKENS).alias(c.NUM_TOKENS))
        .orderBy(c.TEXT_HASH)
        .collect()
    )
    lengths = np.array([row[c.NUM_TOKENS] for row in rows], dtype=np.int32)
    num_texts = max(1, int(np.searchsorted(np.cumsum(lengths), _SAMPLE_TOKENS, side="right")))
    token_ids = np.array([row[c.TOKEN_IDS] for row in rows[:num_texts]], dtype=np.int32)
    encoder = open_model(model_name).text_encoder  # an archive is unpacked on the driver too
    return try_out(encoder, token_ids, lengths[:num_texts], back_ends, batch_tokens=batch_tokens)
