"""`fusion triton start` says at once what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli.triton import start
from fusion.errors import SettingsError


def test_a_client_with_tls_needs_a_server_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CA", "CERT", "KEY"):
        monkeypatch.setenv(f"FUSION_TRITON_{name}_FILE", str(Path("a.pem")))
    with pytest.raises(SettingsError, match="give --cert, --key and --client-ca"):
        start(cert=None, key=None, client_ca=None)
