"""The evaluator: replay of witnesses, and their cross-check on any networks."""

from arfj.evaluate.replay import Replay, Witness, load_witness, replay

__all__ = ["Replay", "Witness", "load_witness", "replay"]
