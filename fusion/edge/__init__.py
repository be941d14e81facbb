"""Reading the devices of a plant: everything that is the same for every protocol."""

from fusion.edge.running import DeviceRun, Positions, State
from fusion.edge.speech import SpeechSieve, WithoutSpeech

__all__ = ["DeviceRun", "Positions", "SpeechSieve", "State", "WithoutSpeech"]
