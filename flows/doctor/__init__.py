"""``fusion doctor``: is everything in place that a plant needs, and what to do where it is not."""
