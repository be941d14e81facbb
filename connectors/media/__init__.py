"""Cameras and microphones that FFmpeg can open, by PyAV."""

from connectors.media.camera import CameraSession
from connectors.media.sound import SoundUrlSession

__all__ = ["CameraSession", "SoundUrlSession"]
