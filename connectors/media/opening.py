"""Opens what FFmpeg can open, with limits, and tells what its failures mean."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import av
from av.container import InputContainer
from av.error import (
    FFmpegError,
    HTTPForbiddenError,
    HTTPUnauthorizedError,
    InvalidDataError,
)
from pydantic import SecretStr

from fusion.errors import DeviceRefusedError, DeviceUnavailableError
from fusion.plant.devices import CameraDevice, SoundUrlDevice

MAX_PIXELS = 40_000_000
"""The decoder refuses larger pictures before it takes memory for them."""
_PROBE_US = 1_000_000
"""How much of a stream is looked at before it is read; longer only delays."""

MediaDevice = CameraDevice | SoundUrlDevice
logging.getLogger("libav").setLevel(logging.CRITICAL)


def open_media(device: MediaDevice, password: SecretStr | None) -> InputContainer:
    """Return the open container of ``device``.

    Raises:
        DeviceUnavailableError, DeviceRefusedError: It does not answer, or refuses us.
    """
    options = {"analyzeduration": str(_PROBE_US), "max_pixels": str(MAX_PIXELS)}
    if device.url.startswith("rtsp"):
        options["rtsp_transport"] = device.transport
    with explained(device):
        return av.open(
            _with_login(device, password),
            options=options,
            timeout=(device.open_timeout_s, device.read_timeout_s),
            metadata_errors="replace",  # (a title in no known letters is no reason to be deaf)
        )


@contextmanager
def explained(device: MediaDevice) -> Iterator[None]:
    """Say what a failure of FFmpeg means; never with the address that holds the password."""
    try:
        yield
    except (HTTPUnauthorizedError, HTTPForbiddenError) as refused:
        raise DeviceRefusedError(
            f"{device.name} at {device.url} refuses: {refused.strerror}; check the login"
        ) from None
    except (FFmpegError, OSError) as failed:
        why = "it gave what is no stream" if isinstance(failed, InvalidDataError) else ""
        raise DeviceUnavailableError(
            f"{device.name} must be reached at {device.url}, but "
            f"{why or failed.strerror or type(failed).__name__}; check the device and the network"
        ) from None


def _with_login(device: MediaDevice, password: SecretStr | None) -> str:
    if device.login is None or password is None:
        return device.url
    scheme, _, rest = device.url.partition("://")
    user, secret = (
        quote(device.login.username, safe=""),
        quote(password.get_secret_value(), safe=""),
    )
    return f"{scheme}://{user}:{secret}@{rest}"
