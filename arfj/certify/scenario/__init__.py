"""Certificates against random noise by the scenario approach: sizes, noise, sets, and what they prove."""

from arfj.certify.scenario.certificate import (
    Request,
    Safe,
    ScenarioCertificate,
    by_faces,
    certify,
    from_outputs,
)
from arfj.certify.scenario.noise import Gaussian, L1Ball, Uniform
from arfj.certify.scenario.parameters import certify_networks, inner_sampler
from arfj.certify.scenario.sets import Ball, Box
from arfj.certify.scenario.sizes import discards, exact_epsilon, exact_size, paper_epsilon, paper_size
from arfj.certify.scenario.stream import Source
from arfj.certify.scenario.surrogate import certify_by_surrogate, surrogate

__all__ = [
    "Ball",
    "Box",
    "Gaussian",
    "L1Ball",
    "Request",
    "Safe",
    "ScenarioCertificate",
    "Source",
    "Uniform",
    "by_faces",
    "certify",
    "certify_by_surrogate",
    "certify_networks",
    "discards",
    "exact_epsilon",
    "exact_size",
    "from_outputs",
    "inner_sampler",
    "paper_epsilon",
    "paper_size",
    "surrogate",
]
