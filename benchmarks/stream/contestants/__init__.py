"""One process each: read the same topics, print one line of JSON (``benchmarks.stream.jobs``)."""
