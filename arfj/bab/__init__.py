"""Branch and bound of our own over ReLU phases, on linear programs whose bounds are certified from multipliers."""

from arfj.bab.relaxation import Relaxation
from arfj.bab.tree import Found, Search

__all__ = ["Found", "Relaxation", "Search"]
