"""The distribution of a network's outputs under random inputs, between bounds that hold over the whole support.

The box of the inputs is cut into the linear regions of the network (`regions`, by `polytopes` and `mesh`), these at the
levels y; masses of cells (`densities`, `gaussians`) are added up on either side (`distribution`), on finer cells where
that is not enough (`refine`). `answers` has what one asks for.

Source: A. Kofnov, D. Kapla, E. Bartocci and E. Bura, Exact upper and lower bounds for the output distribution of neural
networks with random inputs, ICML 2025 (the method; cells, bounds of densities and refinement here are others).
"""
