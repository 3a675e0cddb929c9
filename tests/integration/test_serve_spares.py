"""Spare workers in a real Ray: a replica's actor moves into one, and finds the application imported."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

import pytest

pytestmark = pytest.mark.integration

CODE = """
import json, os, sys, time
os.environ["RAY_preload_python_modules"] = "framegrid_serve.worker_preload"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
from framegrid_serve.spares import ask_for_workers, waiting_workers

ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=80 << 20,
         log_to_driver=False, _temp_dir=sys.argv[1])

@ray.remote(num_cpus=0)
class Replica:
    def look(self):
        return os.getpid(), sorted({"framegrid_serve.app", "ray.serve", "pandas"} & set(sys.modules))

def wait_for(count):
    deadline = time.monotonic() + 60
    while len(found := waiting_workers()) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    return set(found)

def wait_for_import(pids):
    deadline = time.monotonic() + 90  # they import the application while they wait, its engines last
    while time.monotonic() < deadline:
        if all("openvino" in open(f"/proc/{pid}/maps").read() for pid in pids):
            return
        time.sleep(0.2)

used_up = [Replica.remote() for _ in range(2)]  # those that Ray started with the node
ray.get([replica.look.remote() for replica in used_up])
before = waiting_workers()
ask_for_workers(2)
spares = wait_for(len(before) + 2) - set(before)
wait_for_import(spares)
kept = spares & set(waiting_workers())
replicas = [Replica.remote() for _ in range(2 + len(before))]
looked = dict(ray.get([replica.look.remote() for replica in replicas]))
print(json.dumps({"asked": len(spares), "kept": len(kept), "moved_in": len(spares & set(looked)),
                  "modules": sorted({name for pid in spares & set(looked) for name in looked[pid]})}))
"""


def test_a_replica_moves_into_a_spare_that_has_imported_everything() -> None:
    with tempfile.TemporaryDirectory(prefix="fg-", dir="/tmp") as folder:  # Ray's sockets want a short path
        done = subprocess.run(
            [sys.executable, "-c", CODE, folder], capture_output=True, text=True, timeout=240, check=False
        )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found == {
        "asked": 2,
        "kept": 2,
        "moved_in": 2,
        "modules": ["framegrid_serve.app", "ray.serve"],  # and no pandas
    }
