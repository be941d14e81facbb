"""Whether two runtimes of one network say the same: torch, ONNX Runtime, Triton; fp32 and int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusion.errors import ParityError

Arrays = Mapping[str, NDArray[np.floating]]
Precision = Literal["fp32", "int8"]

MAX_DIFFERENCE = 1e-3
"""Of two runtimes of the same network: the largest difference of any element. Embeddings have unit
variance, so a score changes in its third digit at most; what is measured is below 1e-5."""
MAX_INT8_LOSS = 0.1
"""Of a quantised network: root mean square of the difference, over the reference's own deviation
from its mean. Its share of the variance is the square: 1 %."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far one output lies from its reference."""

    output: str
    largest: float
    """Largest difference of any element; NaN or inf where something is not finite."""
    relative: float
    """Root mean square of the difference, as a part of the reference's standard deviation."""


def deviations_of(answered: Arrays, reference: Arrays) -> list[Deviation]:
    """Return how far each output of ``reference`` is from what was ``answered``.

    Raises:
        ParityError: An output is missing or has another shape.

    Example:
        >>> import numpy as np
        >>> said, known = np.array([1.0, 3.0]), np.array([1.0, 2.0])
        >>> deviations_of({"z": said}, {"z": known})[0].largest
        1.0
    """
    found: list[Deviation] = []
    for name, wanted in reference.items():
        came = answered.get(name)
        if came is None or came.shape != wanted.shape:
            raise ParityError(
                f"output {name!r} must have shape {wanted.shape} on the golden windows, got "
                f"{'nothing' if came is None else came.shape}; export the model again"
            )
        difference = came.astype(np.float64) - wanted.astype(np.float64)
        spread = max(float(wanted.std(dtype=np.float64)), 1e-6)
        rms = float(np.sqrt(np.mean(np.square(difference))))
        found.append(Deviation(name, float(np.max(np.abs(difference))), rms / spread))
    return found


def require_parity(
    answered: Arrays, reference: Arrays, *, who: str, precision: Precision = "fp32"
) -> list[Deviation]:
    """Return the deviations when ``who`` answered as the reference did, within the tolerance.

    Raises:
        ParityError: It did not; names the output that differs most. NaN is never within.
    """
    found = deviations_of(answered, reference)
    is_exact = precision == "fp32"
    limit = MAX_DIFFERENCE if is_exact else MAX_INT8_LOSS
    for each in found:
        value = each.largest if is_exact else each.relative
        if not value <= limit:  # (NaN compares false)
            what = "any element" if is_exact else "the root mean square, in deviations"
            raise ParityError(
                f"{who} must answer the golden windows as the model did when it was exported, but "
                f"{each.output!r} differs by {value:.3g}, {what} may differ by {limit:g}; "
                + ("export it again" if is_exact else "serve this model in fp32")
            )
    return found
