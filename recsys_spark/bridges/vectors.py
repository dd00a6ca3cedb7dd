"""Arrow lists <-> numpy matrices: what travels between Spark and the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.errors import problem
from recsys_spark.kernels.grid import GRID_STEPS, Float32Array, NotFiniteError, OffGridError


def decode_vectors(column: pa.Array, where: str, *, width: int | None = None) -> Float32Array:
    """An array<float> column as float32 [N, D] without a copy; `width` is the D it must have (None: any one).

    Raises the typed error for another type, nulls, or rows of unequal width; N is at least 1.
    """
    found = None
    if not (pa.types.is_list(column.type) and pa.types.is_float32(column.type.value_type)):
        found = str(column.type)
    elif column.null_count or column.flatten().null_count:
        found = f"{column.null_count:,} nulls in place of vectors, {column.flatten().null_count:,} inside of them"
    else:
        widths = pc.min_max(pc.list_value_length(column)).as_py()
        if not 0 < widths["min"] == widths["max"] == (width or widths["max"]):
            found = f"widths from {widths['min']} to {widths['max']}"
    if found:
        raise problem(
            where,
            wanted=f"an array<float> of width {width}" if width else "an array<float> of one width",
            found=found,
            do="Users and items must be embedded by the same model version: run both embed jobs again.",
        )
    vectors: Float32Array = column.flatten().to_numpy(zero_copy_only=True).reshape(len(column), -1)
    return vectors


@contextmanager
def explain_bad_vectors(where: str, ids: pa.Array) -> Iterator[None]:
    """Turns the kernel's `OffGridError` and `NotFiniteError` into the typed error, which names the row by its id."""
    try:
        yield
    except OffGridError as error:
        raise problem(
            f"{where}, row of {ids[error.row]}",
            wanted=f"coordinates that are multiples of 1/{GRID_STEPS}, and a length of at most 1 (kernels/grid.py)",
            found="another vector: its scores would not be exact",
            do="Write vectors by the embed jobs, or by snap_to_grid.",
        ) from None
    except NotFiniteError as error:
        raise problem(
            f"{where}, row of {ids[error.row]}",
            wanted="finite numbers",
            found="NaN or infinity",
            do="Train again with a lower train.learning_rate. If few rows are so, look at their texts or events.",
        ) from None


def encode_lists(values: pa.Array, counts: np.ndarray) -> pa.ListArray:
    """Flat values as one list per row, of the given lengths."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
