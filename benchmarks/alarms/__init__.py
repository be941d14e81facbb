"""How fast the alarm engine is, and what it holds."""
