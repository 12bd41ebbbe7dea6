"""Run as a program: the transfer study's smoke mode on a Dask cluster of two worker processes on this machine.

With `lose` as a second argument, one worker is killed while it has a task.
"""

import os
import signal
import sys
import threading
import time

import joblib
from dask.distributed import Client, LocalCluster

from arfj.cli import run
from experiments.__main__ import main

SETTINGS = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}


def lose_one(cluster, pids):
    """Kill the first worker that is seen at work."""
    while True:
        for address, worker in list(cluster.scheduler.workers.items()):
            if worker.processing:
                os.kill(pids[address], signal.SIGKILL)
                print(f"killed a worker with {len(worker.processing)} tasks", file=sys.stderr, flush=True)
                return
        time.sleep(0.01)


if __name__ == "__main__":
    with LocalCluster(**SETTINGS) as cluster, Client(cluster) as client:
        pids = client.run(os.getpid)
        if "lose" in sys.argv:
            threading.Thread(target=lose_one, args=(cluster, pids), daemon=True).start()
        with joblib.parallel_config(backend="dask"):
            status = run(main, ["transfer", "--smoke", "--out", sys.argv[1]])
    sys.exit(status)
