"""Puts things together: command line, wiring, live process, Prefect flows, reports."""
