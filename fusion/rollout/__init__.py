"""How a model version proves itself beside the one in service, and when it has to go back."""
