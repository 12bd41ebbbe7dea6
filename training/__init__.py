"""How the networks are made: TensorFlow through Keras 3, reproducible bit for bit from a seed on one machine."""

import arfj.starting  # noqa: F401 - first of all

# isort: split

from training.many import Outcome, fresh_networks, outcomes
from training.settings import Settings

__all__ = ["Outcome", "Settings", "fresh_networks", "outcomes"]
