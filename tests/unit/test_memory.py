"""Peak memory of the process tree."""

import subprocess
import sys
import time

from recsys_spark.memory import PeakMemory

MIB = 1 << 20
HOLD = "import sys, time; block = b'x' * (200 << 20); print('holds', flush=True); sys.stdin.readline()"


def test_counts_what_a_child_holds_and_remembers_it_after_its_end():
    with PeakMemory(every_seconds=0.05) as memory:
        time.sleep(0.2)
        before = memory.peak_mib
        child = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(0.3)
        child.communicate(b"\n")
    assert before > 0
    assert before + 180 <= memory.peak_mib <= before + 400


def test_a_short_block_is_sampled_once():
    with PeakMemory(every_seconds=60) as memory:
        pass
    assert memory.peak_mib > 0
