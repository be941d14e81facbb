"""Windows a second and latency: in process, PyTorch, and Triton at many concurrencies."""
