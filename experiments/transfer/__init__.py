"""The transfer study: how often answers fool networks that no attack has seen, with statistics."""
