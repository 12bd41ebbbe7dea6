"""The complete verifier."""
