"""Worst-case CVaR of a network's loss over all input distributions with a given mean and covariance.

M. Kishida, Distributionally robust safety verification of neural networks via worst-case CVaR, arXiv:2509.17413,
repaired where it cannot work as printed, with bounds that are recomputed from multipliers and never a solver's word.
"""

from arfj.certify.cvar.certificate import Certificate, Options, certify_classes, certify_loss, certify_many, support_in
from arfj.certify.cvar.lifting import Lifted, lifted
from arfj.certify.cvar.moments import Moments
from arfj.certify.cvar.multipliers import FAMILIES, Constraints, Support, constraints
from arfj.certify.cvar.recompute import Proof, proof_from
from arfj.certify.cvar.worst import WorstCase, attaining, cvar, worst_case_cvar

__all__ = [
    "FAMILIES",
    "Certificate",
    "Constraints",
    "Lifted",
    "Moments",
    "Options",
    "Proof",
    "Support",
    "WorstCase",
    "attaining",
    "certify_classes",
    "certify_loss",
    "certify_many",
    "constraints",
    "cvar",
    "lifted",
    "proof_from",
    "support_in",
    "worst_case_cvar",
]
