"""Addresses in URLs: the levels of ISA-95 joined by dots, which no name may have in it."""

from __future__ import annotations


def slug(address: str) -> str:
    """Return the address of a plant as one segment of a path.

    Example:
        >>> slug("demo/lab/utilities/line1/cell1/pump-rig")
        'demo.lab.utilities.line1.cell1.pump-rig'
    """
    return address.replace("/", ".")


def unslug(segment: str) -> str:
    """Return the address that :func:`slug` made ``segment`` from."""
    return segment.replace(".", "/")
