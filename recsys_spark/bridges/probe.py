"""Which back end encodes the texts: named, or settled once per model version by what a worker finds out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.model_files import open_model
from recsys_spark.errors import problem
from recsys_spark.kernels.back_ends import BACK_ENDS, FLOAT32, available, back_end_named
from recsys_spark.kernels.trials import Trial, best_exact, try_out

# So many that a loss in one text of a hundred shows in 92 of 100 samples (in 73 of 100 batches of 131).
# With the full batch, four back ends take 2.5 s more than on one batch where texts have 16 tokens; where they are long,
# the tokens are those of four batches of the default size, and take 5 s more.
SAMPLE_TEXTS: Final = 256
SAMPLE_TOKENS: Final = 8192
AUTO: Final = "auto"
_AVAILABLE: Final = "name string, by_itself boolean"
_TRIAL: Final = (
    "name string, texts_per_second double, min_cosine double, mean_cosine double, is_steady boolean, num_texts bigint"
)


@dataclass(frozen=True)
class Choice:
    """A back end's name, and what the log says about it."""

    name: str
    note: str


def choose_back_end(
    wanted: str, item_text: DataFrame, *, recorded: str | None, model_name: str, batch_tokens: int
) -> Choice:
    """The back end named by `wanted`; `auto`: the one `recorded` with the model version, else the best of a probe.

    Vectors of one model version come from one back end, or its users and items would not lie in one space to the last
    bit, and a second run would give other lists. Workers are told the name: none chooses for itself. One worker tries,
    as the driver may lack the workers' GPU, so workers have to be alike; where they are not, name a back end that all
    have.
    """
    if wanted == FLOAT32:
        return Choice(FLOAT32, f"texts are encoded by {FLOAT32}, as configured")
    here = {row.name: row.by_itself for row in _run_on_a_worker(item_text.sparkSession, _name_available, _AVAILABLE)}
    if wanted == AUTO and recorded:
        _require_recorded(recorded, list(here))
        return Choice(recorded, f"texts are encoded by {recorded}, as settled for this model version")
    if wanted == AUTO:
        trials = _try_on_texts(item_text, [name for name in here if here[name]], model_name, batch_tokens)
        best = best_exact(trials)
        found = f"{'; '.join(map(str, trials))} (cosines of {best.num_texts} texts)"
        return Choice(best.name, f"texts are encoded by {best.name}, of {found}")
    if wanted not in here:
        raise problem(
            "configuration, embed.back_end",
            wanted=f"{AUTO}, or what a worker can do: {', '.join(here)}",
            found=wanted,
            do="Take another one, or run on machines that have it.",
        )
    exact, named = _try_on_texts(item_text, [FLOAT32, wanted], model_name, batch_tokens)
    faster = f"{named.texts_per_second / exact.texts_per_second:.1f} times as fast"
    loss = f"cosine with {FLOAT32} >= {named.min_cosine:.5f}, {named.mean_cosine:.5f} on average"
    found = f"{faster}, {loss}{named.warning} (cosines of {named.num_texts} texts)"
    return Choice(wanted, f"texts are encoded by {wanted}, as configured: {found}")


def _require_recorded(recorded: str, here: list[str]) -> None:
    """Raise where a worker cannot do what the model version's other vectors were made with."""
    if recorded not in here:
        raise problem(
            "back end of this model version (embed.back_end: auto)",
            wanted=f"{recorded}, which it was settled on where its items were first embedded",
            found=f"workers that can do {', '.join(here)}",
            do="Run on machines that have it, or name one of these in embed.back_end: all items are embedded again.",
        )


def _try_on_texts(item_text: DataFrame, names: list[str], model_name: str, batch_tokens: int) -> list[Trial]:
    """Trials on some of the catalogue's distinct texts: those with the smallest hashes, which are random."""
    chosen = item_text.select(c.TEXT_HASH).distinct().orderBy(c.TEXT_HASH).limit(SAMPLE_TEXTS)
    rows = (
        item_text.join(F.broadcast(chosen), on=[c.TEXT_HASH], how="left_semi")
        .groupBy(c.TEXT_HASH)
        .agg(F.first(c.TOKEN_IDS).alias(c.TOKEN_IDS), F.first(c.NUM_TOKENS).alias(c.NUM_TOKENS))
        .orderBy(c.TEXT_HASH)
        .collect()
    )
    lengths = np.array([row[c.NUM_TOKENS] for row in rows], dtype=np.int32)
    num_texts = max(1, int(np.searchsorted(np.cumsum(lengths), SAMPLE_TOKENS, side="right")))
    token_ids = np.array([row[c.TOKEN_IDS] for row in rows[:num_texts]], dtype=np.int32)
    work = partial(_try_out_named, names, model_name, token_ids, lengths[:num_texts], batch_tokens)
    return [Trial(**row.asDict()) for row in _run_on_a_worker(item_text.sparkSession, work, _TRIAL)]


def _run_on_a_worker(spark: SparkSession, work: Callable[[], list[dict[str, Any]]], schema: str) -> list[Row]:
    """The rows that `work` returns in one task; it is a function of this module, which workers import themselves."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for _ in batches:
            yield pa.RecordBatch.from_pylist(work())

    return spark.range(0, 1, 1, numPartitions=1).mapInArrow(run, schema).collect()


def _name_available() -> list[dict[str, Any]]:
    return [{"name": back_end.name, "by_itself": back_end.by_itself()} for back_end in available(BACK_ENDS)]


def _try_out_named(
    names: list[str],
    model_name: str,
    token_ids_NT: npt.NDArray[np.int32],
    lengths_N: npt.NDArray[np.int32],
    batch_tokens: int,
) -> list[dict[str, Any]]:
    """The trials' fields."""
    encoder = open_model(model_name).text_encoder
    back_ends = [back_end_named(name) for name in names]
    return [vars(trial) for trial in try_out(encoder, token_ids_NT, lengths_N, back_ends, batch_tokens=batch_tokens)]
