"""Distributions of outputs under random inputs: the experiments of the published method, made again and measured."""
