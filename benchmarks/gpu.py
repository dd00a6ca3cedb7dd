"""What one GPU does: search, embedding and training by the platform's own kernels, each against its yardstick.

    make bench-gpu                             about 2 minutes; writes benchmarks/results/gpu.json
    make bench-gpu ARGS='--only score'         some of score, embed, train; nothing is written
    make bench-gpu ARGS=--quick                a tenth of everything; nothing is written

`ratio` is seconds over the yardstick's: for the search the float32 product of all pairs on the same GPU, for the
encoder a naive loop there, for training a step on all cores of the machine's processor. Every list is checked: some by
the oracle, a thousand against the processor's kernel, bit for bit. Without a GPU it says so and ends.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks.gpu_embed import embed_rows
from benchmarks.gpu_rows import HEADING, GpuRow
from benchmarks.gpu_score import SIZES, score_rows
from benchmarks.gpu_train import train
from benchmarks.score_rows import Machine

PARTS = ("score", "embed", "train")
RESULTS = Path(__file__).with_name("results") / "gpu.json"
QUICK = 10


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be given again")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything; nothing is written")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(f"bench-gpu: no GPU that torch {torch.__version__} can use; nothing measured")
        return
    device = torch.device("cuda", 0)
    machine = f"{torch.cuda.get_device_name(device)}; {Machine.this()}; torch {torch.__version__}"
    print(machine, HEADING, sep="\n", flush=True)
    rows = []
    for row in _measure(options.only or PARTS, device, QUICK if options.quick else 1):
        rows.append(row)
        print(row, flush=True)
    if not options.only and not options.quick:
        found = {"machine": machine, "rows": [asdict(row) for row in rows]}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def _measure(parts: Sequence[str], device: torch.device, share: int) -> Iterator[GpuRow]:
    if "score" in parts:
        yield from score_rows(
            device, tuple(replace(size, users=size.users // share, items=size.items // share) for size in SIZES)
        )
    if "embed" in parts:
        yield from embed_rows(device, share)
    if "train" in parts:
        yield from _train_rows(device, share)


def _train_rows(device: torch.device, share: int) -> Iterator[GpuRow]:
    on_processor, _ = train(torch.device("cpu"), 40 // share)
    step = on_processor.seconds_per_step
    yield GpuRow("train", "a step on the processor", "64 rows", step, 1.0, str(on_processor))
    on_gpu, said = train(device, 400 // share)
    yield GpuRow(
        "train", "a step on the GPU", "64 rows", on_gpu.seconds_per_step, on_gpu.seconds_per_step / step,
        f"{on_gpu}; {said}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
