"""How fast product texts become vectors: naive loops, other libraries, the platform's kernel and its whole job.

    make bench-embed                     about 12 minutes; writes benchmarks/results/embed.json
    make bench-embed ARGS=--quick        a tenth of the texts, nothing judged or written
    make bench-embed ARGS='--items N'    only the job, on N items with a text of their own, nothing judged or written
    make bench-embed ARGS='--change N'   only its run after 1 % of N texts changed, the other vectors made up

Every row runs in one thread, on the same texts, in the same run: real names of the Complete Journey catalogue, each
once ("short"), and five or six of them joined ("long"). The naive rows are measured on the first texts and scaled. The
job rows are a Spark session with one core, from Delta to Delta, over real products: with their texts, which repeat, and
with a text of its own for each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks.embed_environment import peers_python
from benchmarks.embed_job import time_change, time_jobs, time_own_texts
from benchmarks.embed_rows import HEADER, OURS, Row, verdicts
from benchmarks.embed_texts import BATCH_TOKENS, ENCODER, MAX_TOKENS, long_texts, short_texts
from recsys_spark.kernels.back_ends import BACK_ENDS, FLOAT32, available
from recsys_spark.kernels.text_encoder import TextEncoder, Tokenizer, encode_all, find_encoder
from recsys_spark.kernels.trials import best_exact, row_cosines, try_out

RESULTS = Path(__file__).with_name("results") / "embed.json"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.embed", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the texts; nothing is judged or written")
    parser.add_argument("--items", type=int, help="only the job, on that many items with a text of their own")
    parser.add_argument("--change", type=int, help="only the job after a change, on that many items, most made up")
    options = parser.parse_args(arguments)
    share = 10 if options.quick else 1
    torch.set_num_threads(1)
    print(_machine(), HEADER, sep="\n", flush=True)
    if options.items or options.change:
        _, seconds, _ = _time_naive("short", texts := short_texts(60), len(texts))[0]
        runs = time_own_texts(options.items) if options.items else time_change(options.change)
        _rows_of_job(runs, seconds / len(texts))
        return
    rows: list[Row] = []
    sets = {"short": short_texts(2000 // share), "long": long_texts(400 // share)}
    naive = {}
    with tempfile.TemporaryDirectory() as scratch:
        peers = _time_peers(sets, Path(scratch))
        for name, texts in sets.items():
            of_set = [*_time_naive(name, texts, 60 // share), *_time_torch(name, texts)]
            exact = next(vectors for row_name, _, vectors in of_set if row_name == f"{name}: torch, sorted, {FLOAT32}")
            naive[name] = of_set[0][1]
            for row_name, seconds, vectors in of_set + peers[name]:
                cosine = float(row_cosines(vectors, exact[: len(vectors)]).min())
                rows.append(Row(row_name, len(texts), seconds, naive[name] / seconds, cosine))
                print(rows[-1], flush=True)
    rows += _rows_of_job(time_jobs(92_331 // share), naive["short"] / len(sets["short"]))
    if share == 1:
        print("", *verdicts(rows), sep="\n")
        RESULTS.write_text(json.dumps({"machine": _machine(), "rows": [vars(row) for row in rows]}, indent=1) + "\n")


def _rows_of_job(runs: Iterable[tuple[str, int, float]], naive_per_text: float) -> list[Row]:
    """Printed as they come; the naive loop encodes each item's text."""
    rows = []
    for name, size, seconds in runs:
        rows.append(Row(name, size, seconds, naive_per_text * size / seconds))
        print(rows[-1], flush=True)
    return rows


def _machine() -> str:
    """Processor, the instruction sets that matter here, threads, back ends."""
    pairs = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    known = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni")
    sets = [flag for flag in facts.get("flags", "").split() if flag in known or flag.startswith("amx")]
    name = facts.get("model name", "unknown processor")
    return (
        f"{name}, {os.cpu_count()} cores, {' '.join(sets)}; one thread; torch {torch.__version__} "
        f"({torch.backends.cpu.get_cpu_capability()}); {', '.join(b.name for b in available(BACK_ENDS))}"
    )


def _fastest(run: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Seconds of the faster of two passes, and the vectors."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        vectors = run()
        seconds.append(time.perf_counter() - started)
    return min(seconds), vectors


@torch.inference_mode()
def _time_naive(name: str, texts: list[str], num_tried: int) -> list[tuple[str, float, np.ndarray]]:
    """A user's first loops over Hugging Face's model: all texts padded to MAX_TOKENS, one or 32 at a time."""
    folder = find_encoder(ENCODER)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def encode(some: list[str]) -> np.ndarray:
        inputs = tokenizer(some, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        hidden, mask = model(**inputs).last_hidden_state, inputs["attention_mask"][:, :, None]
        return ((hidden * mask).sum(dim=1) / mask.sum(dim=1)).numpy()

    def encode_all(starts: range, size: int) -> np.ndarray:
        return np.concatenate([encode(texts[start : start + size]) for start in starts])

    rows = []
    for label, size, tried in (("naive loop, one text", 1, num_tried), ("naive batches of 32", 32, 4 * num_tried)):
        starts = range(0, min(tried, len(texts)), size)
        num = min(len(texts), len(starts) * size)
        seconds, vectors = _fastest(partial(encode_all, starts, size))
        rows.append((f"{name}: {label}, padded to {MAX_TOKENS} ({num} tried)", seconds * len(texts) / num, vectors))
    return rows


def _time_torch(name: str, texts: list[str]) -> list[tuple[str, float, np.ndarray]]:
    """The platform's kernel with each back end, tokenizing included, and the one its probe picks."""
    tokenizer, encoder = Tokenizer(ENCODER, MAX_TOKENS), TextEncoder.pretrained(ENCODER).eval()
    encoder.requires_grad_(False)
    rows = []
    for back_end in available(BACK_ENDS):
        prepared = back_end.prepare(encoder)
        back_end.encode(prepared, *tokenizer(texts[:32]), batch_tokens=BATCH_TOKENS)

        def run(prepared: TextEncoder = prepared, precision: torch.dtype = back_end.precision) -> np.ndarray:
            return encode_all(prepared, *tokenizer(texts), batch_tokens=BATCH_TOKENS, precision=precision)

        rows.append((f"{name}: torch, sorted, {back_end.name}", *_fastest(run)))
    by_itself = [back_end for back_end in available(BACK_ENDS) if back_end.by_itself()]
    sample = tokenizer(texts[: max(8, BATCH_TOKENS // 16)])
    best = best_exact(try_out(encoder, *sample, by_itself, batch_tokens=BATCH_TOKENS)).name
    seconds, vectors = next((s, v) for row, s, v in rows if row.endswith(f", {best}"))
    return [*rows, (f"{name}: {OURS}the kernel with what the probe picks ({best})", seconds, vectors)]


def _time_peers(sets: dict[str, list[str]], folder: Path) -> dict[str, list[tuple[str, float, np.ndarray]]]:
    """What benchmarks/embed_peers.py measured in the peers' environment."""
    (folder / "texts.json").write_text(json.dumps(sets))
    script = Path(__file__).with_name("embed_peers.py")
    done = subprocess.run(
        [peers_python(), script, folder / "texts.json", folder],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    if done.returncode:
        raise SystemExit(f"the peers failed:\n{done.stderr[-3000:]}")
    found: dict[str, list[tuple[str, float, np.ndarray]]] = {name: [] for name in sets}
    for line in map(json.loads, (line for line in done.stdout.splitlines() if line.startswith('{"peer"'))):
        vectors = np.load(folder / f"{line['peer']}-{line['set']}.npy")
        found[line["set"]].append((f"{line['set']}: {line['peer']}", line["seconds"], vectors))
    return found


if __name__ == "__main__":
    main()
