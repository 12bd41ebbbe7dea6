"""Branch and bound of our own over ReLU phases, on linear programs whose bounds are certified from multipliers."""

from arfj.bab.relaxation import Relaxation
from arfj.bab.tree import Found, Others, Search

__all__ = ["Found", "Others", "Relaxation", "Search"]
