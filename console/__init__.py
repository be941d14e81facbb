"""The operators' web page and its API."""
