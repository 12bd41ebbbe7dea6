"""The evaluator: replay of witnesses, and their cross-check on any networks."""

from arfj.evaluate.crosscheck import CrossCheck, cross_check
from arfj.evaluate.replay import Replay, Witness, load_witness, replay

__all__ = ["CrossCheck", "Replay", "Witness", "cross_check", "load_witness", "replay"]
