"""The attack: one image, one target, and every network of an uncertainty set."""

from arfj.attack.options import Options
from arfj.attack.result import AttackResult
from arfj.attack.scenarios import given, sampled
from arfj.attack.solve import solve_question

__all__ = ["AttackResult", "Options", "given", "sampled", "solve_question"]
