"""Exact adversarial examples that survive retraining, and certificates for networks under uncertainty.

The flow: network -> region and ensemble -> bounds -> encoding -> solver -> bab -> tighten -> evaluate -> attack
-> verify -> exact -> certify -> report.
"""

import arfj.starting  # noqa: F401 - first of all

# isort: split

from arfj.ensemble import Ensemble, Oracle, d_in, d_osd, inner_samples, outer_samples
from arfj.errors import ArfjError
from arfj.network import Dense, Network, load_dense, load_network
from arfj.region import Region

__all__ = [
    "ArfjError",
    "Dense",
    "Ensemble",
    "Network",
    "Oracle",
    "Region",
    "d_in",
    "d_osd",
    "inner_samples",
    "load_dense",
    "load_network",
    "outer_samples",
]
