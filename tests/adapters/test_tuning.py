"""`tuning.py`: in a process of its own, because it changes the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import gc, resource, sys
from trialogue_adapters.tuning import tune_process
hard = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, hard), hard))
print(tune_process(int(sys.argv[2])))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard, gc.get_freeze_count() > 0, gc.get_threshold()[0] > 700)
"""


@pytest.mark.parametrize(("descriptors", "connections", "said"), [(128, 64, "None"), (128, 0, "None"), (128, 65, "64")])
def test_the_limit_is_opened_and_a_shortage_is_said(descriptors: int, connections: int, said: str) -> None:
    arguments = [sys.executable, "-c", SCRIPT, str(descriptors), str(connections)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert said in first
    assert second == "True True True"
