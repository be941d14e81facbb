"""How long a version that misbehaves on a real Triton stays in service."""
