"""What Prometheus reads of each process; the names are in :mod:`flows.metrics.catalogue`."""
