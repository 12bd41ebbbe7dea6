"""Transfer: how answers for one uncertainty set fare on networks that are no samples of it, set by set."""
