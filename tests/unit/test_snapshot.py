"""Files are shared out without gap or overlap, and read with the rows that were counted, or not at all."""

import base64
import itertools
import pickle
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.bridges.snapshot import Snapshot, SnapshotFile, assign_files, read_batches, rebatch, require_whole
from recsys_spark.errors import RecsysError

file_lists = st.lists(st.integers(1, 1000), min_size=1, max_size=40).map(
    lambda sizes: [SnapshotFile(f"file:///t/{number:03}", rows) for number, rows in enumerate(sizes)]
)


@st.composite
def files_and_shards(draw):
    files = draw(file_lists)
    return files, draw(st.integers(1, len(files) + 3))


@given(files_and_shards())
def test_every_file_goes_to_exactly_one_shard_and_a_shard_is_empty_where_files_are_too_few_only(case):
    files, num_shards = case
    shards = assign_files(files, num_shards)
    assert [bool(shard) for shard in shards] == [shard < len(files) for shard in range(num_shards)]
    assert Counter(file for shard in shards for file in shard) == Counter(files)


@given(files_and_shards())
def test_two_shards_differ_by_at_most_one_file(case):
    files, num_shards = case
    loads = [sum(file.rows for file in shard) for shard in assign_files(files, num_shards)]
    assert max(loads) - min(loads) <= max(file.rows for file in files)


@given(files_and_shards(), st.randoms(use_true_random=False))
def test_names_of_files_do_not_matter_and_each_shard_keeps_their_order(case, random):
    files, num_shards = case
    names = random.sample([file.uri for file in files], len(files))
    renamed = [SnapshotFile(name, file.rows) for name, file in zip(names, files, strict=True)]

    def places(given):
        return [[given.index(file) for file in shard] for shard in assign_files(given, num_shards)]

    assert places(renamed) == places(files)
    assert all(shard == sorted(shard) for shard in places(files))


def test_shards_worked_out_by_hand():
    a, b, c, d, e = (SnapshotFile(name, rows) for name, rows in zip("abcde", (5, 4, 3, 3, 3), strict=True))
    # a | b; then c to b (7), d to a (8), e to b (10)
    assert assign_files([a, b, c, d, e], 2) == [(a, d), (b, c, e)]
    assert assign_files([e, d, c, b, a], 2) == [(d, a), (e, c, b)], "of equal ones the first that is given goes first"


def write(path: Path, numbers, **options) -> SnapshotFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"number": pa.array(numbers, pa.int32()), "text": [str(n) for n in numbers]}
    pq.write_table(pa.table(columns), path, **options)
    return SnapshotFile("file:" + quote(str(path)), len(numbers))


def read(source, batch_rows=100, columns=("number",)):
    return [batch.to_pydict() for batch in read_batches(source, columns, batch_rows)]


@pytest.mark.parametrize("batch_rows", [1, 3, 4, 7, 100])
def test_batches_are_full_across_files_and_row_groups(tmp_path, batch_rows):
    sizes = [4, 1, 9, 0, 5]
    files, start = [], 0
    for number, size in enumerate(sizes):
        files.append(write(tmp_path / f"{number}.parquet", range(start, start + size), row_group_size=3))
        start += size
    batches = read(Snapshot("T", 0, tuple(files)), batch_rows)
    assert [n for batch in batches for n in batch["number"]] == list(range(19))
    assert all(len(batch["number"]) == batch_rows for batch in batches[:-1])
    assert 0 < len(batches[-1]["number"]) <= batch_rows


def test_paths_with_spaces_percents_and_other_letters(tmp_path):
    file = write(tmp_path / "a b" / "split=50%25 x" / "é #1?.parquet", [1, 2])
    assert read([file]) == [{"number": [1, 2]}]


def test_paths_whose_letters_java_leaves_as_they_are(tmp_path):
    file = write(tmp_path / "é 50%.parquet", [1, 2])
    assert read([SnapshotFile(file.uri.replace(quote("é"), "é"), 2)]) == [{"number": [1, 2]}]


def test_columns_come_in_the_order_asked_for(tmp_path):
    (batch,) = read([write(tmp_path / "a.parquet", [7])], columns=("text", "number"))
    assert list(batch) == ["text", "number"]


def test_refuses_a_file_with_other_rows_than_were_counted(tmp_path):
    file = write(tmp_path / "a.parquet", [1, 2, 3])
    with pytest.raises(RecsysError, match=r"wanted 2 rows, as Spark counted .* found 3 rows .*Deletion vectors"):
        read([SnapshotFile(file.uri, 2)])


@given(live=st.lists(st.booleans(), min_size=1, max_size=70), batch_rows=st.integers(1, 80))
def test_only_rows_whose_bit_is_set_are_read(tmp_path_factory, live, batch_rows):
    file = write(tmp_path_factory.mktemp("live") / "a.parquet", range(len(live)), row_group_size=9)
    bits = base64.b64encode(np.packbits(live, bitorder="little")).decode()
    batches = read([SnapshotFile(file.uri, sum(live), bits)], batch_rows)
    assert [n for batch in batches for n in batch["number"]] == list(np.flatnonzero(live))


def test_refuses_a_file_without_rows_of_the_snapshot(tmp_path):
    file = write(tmp_path / "a.parquet", [1, 2, 3])
    with pytest.raises(RecsysError, match=r"wanted 4 rows, as Spark counted .* found 3 rows .*file was changed"):
        read([SnapshotFile(file.uri, 4, base64.b64encode(b"\x0f").decode())])


def test_files_of_which_rows_are_gone_are_not_whole(tmp_path):
    file = write(tmp_path / "a.parquet", [1, 2, 3])
    require_whole([file])
    with pytest.raises(RecsysError, match=r"wanted 2 rows, .* found 3 rows .*Deletion vectors"):
        require_whole([file, SnapshotFile(file.uri, 2, base64.b64encode(b"\x05").decode())])


def test_refuses_a_column_the_file_lacks(tmp_path):
    with pytest.raises(RecsysError, match="found no split among number, text"):
        read([write(tmp_path / "a.parquet", [1])], columns=("number", "split"))


def test_says_that_a_file_is_gone(tmp_path):
    with pytest.raises(RecsysError, match=r"no such file on this machine.*VACUUM"):
        read([SnapshotFile(f"file:{tmp_path}/gone.parquet", 1)])


def test_says_that_pyarrow_lacks_the_file_system():
    with pytest.raises(RecsysError, match="Unrecognized filesystem type"):
        read([SnapshotFile("dbfs:/a.parquet", 1)])


def test_a_snapshot_is_plain_and_counts_its_rows():
    snapshot = Snapshot("T", 3, (SnapshotFile("a", 2), SnapshotFile("b", 3)))
    assert snapshot.rows == 5
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 12), st.none() | st.integers(1, 100))
def test_batches_end_at_their_rows_or_where_their_bytes_do(sizes, batch_rows, max_bytes):
    ends = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    came = [pa.RecordBatch.from_pydict({"n": pa.array(range(*span), pa.int64())}) for span in itertools.pairwise(ends)]
    batches = list(rebatch(came, batch_rows, max_bytes=max_bytes))
    assert [number for batch in batches for number in batch.column("n").to_pylist()] == list(range(ends[-1]))
    assert all(0 < len(batch) <= batch_rows for batch in batches)
    if max_bytes is None:
        assert all(len(batch) == batch_rows for batch in batches[:-1])


def test_no_more_is_held_than_the_bytes_and_the_batch_that_reaches_them():
    taken = []

    def come():
        for number in range(10):
            taken.append(number)
            yield pa.RecordBatch.from_pydict({"n": pa.array([number] * 4)})  # 32 bytes

    assert [len(batch) for batch in rebatch(come(), 1000, max_bytes=64)] == [8] * 5
    assert [len(batch) for batch in rebatch(come(), 6, max_bytes=64)] == [6] * 6 + [4], "a small rest is carried on"
    taken.clear()
    next(rebatch(come(), 1000, max_bytes=65))
    assert taken == [0, 1, 2]
