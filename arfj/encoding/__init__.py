"""Encodings: a question as a neutral mixed-integer problem, in two formulations with one optimum."""

from typing import Literal

from arfj.encoding.paper import encode_paper
from arfj.encoding.problem import Encoding, Indicator, Problem
from arfj.encoding.tight import encode_tight

Formulation = Literal["tight", "paper"]

__all__ = ["Encoding", "Formulation", "Indicator", "Problem", "encode_paper", "encode_tight"]
