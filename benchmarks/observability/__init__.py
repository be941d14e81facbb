"""What it costs the live process to be seen."""
