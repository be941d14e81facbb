"""One file per outside system; each implements ports of :mod:`fusion.ports`. No maths."""
