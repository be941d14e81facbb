"""An hour of plant time through the real live process: memory, lag, and every record's end."""
