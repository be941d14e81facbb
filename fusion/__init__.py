"""Pure core: no network, no wall clock, no environment."""
