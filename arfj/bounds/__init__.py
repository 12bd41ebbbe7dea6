"""Sound bounds of every pre-activation of a network over a region."""

from typing import Literal

from arfj.bounds.crown import STEPS, crown_bounds
from arfj.bounds.interval import interval_bounds
from arfj.bounds.records import Bounds
from arfj.graph import Graph
from arfj.network import Network
from arfj.region import Region

Method = Literal["interval", "crown", "alpha-crown"]

__all__ = ["Bounds", "Method", "crown_bounds", "interval_bounds", "pre_activation_bounds"]


def pre_activation_bounds(
    network: Network | Graph,
    region: Region,
    method: Method = "alpha-crown",
    steps: int = STEPS,
    outputs: bool = True,
) -> Bounds:
    """Bounds l_k <= W' x^(k-1) + b <= u_k for all x of the region.

    Args:
        network: the network.
        region: box and L1 ball.
        method: "interval", "crown" (backward linear bounds) or "alpha-crown" (with optimised slopes).
        steps: of "alpha-crown" on the slopes.
        outputs: whether the last layer's are needed; without, they are those of "interval".
    """
    match method:
        case "interval":
            return interval_bounds(network, region)
        case "crown":
            return crown_bounds(network, region, outputs=outputs)
        case "alpha-crown":
            # Other slopes start from tighter layers, so now and then a plain bound is the better one.
            plain = crown_bounds(network, region, outputs=outputs)
            return crown_bounds(network, region, steps, outputs=outputs).intersect(plain)
