"""How many browsers and updates one console bears."""
