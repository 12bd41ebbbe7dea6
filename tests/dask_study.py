"""Run as a program: the transfer study's smoke mode on a Dask cluster of two worker processes on this machine."""

import sys

import joblib
from dask.distributed import Client, LocalCluster

from arfj.cli import run
from experiments.__main__ import main

if __name__ == "__main__":
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**settings) as cluster, Client(cluster) as client:
        print(*client.run(__import__("os").getpid).values(), flush=True)
        with joblib.parallel_config(backend="dask"):
            status = run(main, ["transfer", "--smoke", "--out", sys.argv[1]])
    sys.exit(status)
