"""A small authority, and whom it knows: PEM files as brokers and their clients want them."""

from __future__ import annotations

from pathlib import Path

import trustme


class Authority:
    """Signs certificates for 127.0.0.1; its own is ``NAME.pem`` in ``folder``."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._authority = trustme.CA(organization_name=name)
        self.file = folder / f"{name}.pem"
        self._authority.cert_pem.write_to_path(self.file)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Write ``NAME.pem`` and ``NAME-key.pem``; return where they are."""
        files = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        issued = self._authority.issue_cert("127.0.0.1", common_name=name)
        issued.cert_chain_pems[0].write_to_path(files[0])
        issued.private_key_pem.write_to_path(files[1])
        return files
