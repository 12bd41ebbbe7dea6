"""The suites of `python -m experiments.attack_benchmark`, one file each, and what they share."""
