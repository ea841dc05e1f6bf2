"""Memory that is freed stays: counted in the system's page faults, in a process of its own."""

import json
import os
import platform
import resource
import subprocess
import sys

import pytest

from pace_tune.training.host_memory import CHOSEN, keep_freed_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")

SCRIPT = """
import ctypes, json, resource, sys, threading
import torch
from pace_tune.training.host_memory import keep_freed_memory

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: a huge page is one fault

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
    env = {name: value for name, value in os.environ.items() if not name.startswith(CHOSEN)}
    done = subprocess.run([sys.executable, "-c", SCRIPT, *args], capture_output=True, text=True, timeout=120, check=True, env=env)
    return json.loads(done.stdout)


@glibc
@pytest.mark.parametrize("where", ["main", "thread"])
def test_the_same_memory_again_asks_the_system_for_none(where):
    fresh, kept = page_faults("leave", where), page_faults("keep", where)
    largest = 48 * 2**20 // resource.getpagesize()
    assert min(fresh) >= largest
    assert min(kept[6:]) <= 0.02 * largest


@glibc
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_what_somebody_has_chosen_stays(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory.__wrapped__()
