"""Puts things together: command line, wiring, live process, Prefect flows, reports."""

import os

# How long a thread of a network spins for the other threads before it sleeps; GNU's OpenMP reads it
# once, as PyTorch is loaded. As it comes it spins for milliseconds, and where another process wants
# the core that the other thread needs, training is ten to sixty times slower (docs/training.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
