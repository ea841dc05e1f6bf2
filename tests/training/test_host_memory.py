"""Memory that is freed stays: counted in the system's page faults, in a process of its own."""

import json
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys, threading
import torch
from pace_tune.training.host_memory import keep_freed_memory

def faults():
    tensors = [torch.ones(size * 2**18) for size in (*[1] * 30, 48)]  # MiB
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def rounds():
    if sys.argv[1] == "keep":
        assert keep_freed_memory()
    seen = [faults() for _ in range(12)]
    print(json.dumps([b - a for a, b in zip(seen, seen[1:])]))

if sys.argv[2] == "main":
    rounds()
else:
    thread = threading.Thread(target=rounds)
    thread.start()
    thread.join()
"""


def page_faults(*args: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *args], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_the_same_memory_again_asks_the_system_for_none(where):
    fresh, kept = page_faults("leave", where), page_faults("keep", where)
    assert min(fresh) > 10_000
    assert max(kept[6:]) < 200
