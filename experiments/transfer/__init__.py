"""The study of transfer: one answer shown to networks that no attack has seen."""
