"""Where the networks of a model run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Inference(Protocol):
    """Runs the networks of one model version."""

    def infer(
        self, network: str, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the named outputs of ``network`` (``encoder`` or ``predictor``).

        Raises:
            InferenceUnavailableError: The server did not answer in time; nothing was scored.
            ModelBrokenError: The network cannot answer these inputs, or cannot be loaded.
            ModelLoadingError: It is being loaded; a later call finds it there.
        """
        ...

    def close(self) -> None:
        """Free everything."""
        ...
