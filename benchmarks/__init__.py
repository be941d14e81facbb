"""Measurements of the product beside peers, and the soak test. See README.md in this folder."""
