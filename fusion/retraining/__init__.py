"""Whether a model still fits its plant, and what follows: drift, and the decision to retrain."""
