"""The plants of the throughput measurement: ten thousand tags, eight cameras, eight microphones."""

from __future__ import annotations

from typing import Any

NUM_STREAMS, TAGS_PER_STREAM = 50, 200
NUM_TAGS = NUM_STREAMS * TAGS_PER_STREAM
NUM_SENSES = 8
FRAMES_HZ, WIDTH_PX, HEIGHT_PX = 5, 640, 360
SAMPLES_HZ, CHUNK_S = 16_000, 0.5
NAMESPACE = "urn:tests:plc"


def tags_of_opcua(port: int) -> dict[str, Any]:
    """Return a plant whose tags are nodes of one OPC UA server."""
    nodes = [
        {"node": f"nsu={NAMESPACE};s=Line1.Tag{number}", "stream": stream, "tag": tag}
        for number, (stream, tag) in enumerate(_tags())
    ]
    endpoint = f"opc.tcp://127.0.0.1:{port}/plc"
    return _plant("opcua", _tables(), [{"protocol": "opcua", "endpoint": endpoint, "nodes": nodes}])


def tags_of_mqtt(port: int, *, tags_per_message: int) -> dict[str, Any]:
    """Return a plant whose tags are JSON on one MQTT broker, so many of them in a message."""
    tags = _tags()
    rules = []
    for number, start in enumerate(range(0, NUM_TAGS, tags_per_message)):
        part = tags[start : start + tags_per_message]
        values = [
            {"stream": stream, "tag": tag, "path": f"v.{index}"}
            for index, (stream, tag) in enumerate(part)
        ]
        rules.append({"topic": f"line/{number}", "time": "t", "time_unit": "ns", "values": values})
    device = {"protocol": "mqtt-json", "host": "127.0.0.1", "port": port, "rules": rules}
    return _plant("mqtt", _tables(), [device])


def cameras(port: int) -> dict[str, Any]:
    """Return a plant of eight cameras on one RTSP server."""
    size = {"rate_hz": FRAMES_HZ, "width_px": WIDTH_PX, "height_px": HEIGHT_PX}
    streams = [{"name": f"s{n}", "modality": "video"} | size for n in range(NUM_SENSES)]
    return _plant("cameras", streams, _senses("camera", port))


def microphones(port: int) -> dict[str, Any]:
    """Return a plant of eight microphones on one RTSP server."""
    sound = {"modality": "audio", "sample_rate_hz": SAMPLES_HZ}
    streams = [{"name": f"s{n}"} | sound for n in range(NUM_SENSES)]
    return _plant("microphones", streams, _senses("sound-url", port, chunk_s=CHUNK_S))


def _tag_names() -> list[list[str]]:
    return [[f"s{s}_t{t}" for t in range(TAGS_PER_STREAM)] for s in range(NUM_STREAMS)]


def _tags() -> list[tuple[str, str]]:
    return [(f"s{s}", tag) for s, tags in enumerate(_tag_names()) for tag in tags]


def _tables() -> list[dict[str, Any]]:
    table = {"modality": "telemetry", "rate_hz": 1, "max_age_s": 5}
    return [
        {"name": f"s{s}", "tags": [{"name": tag, "unit": "%", "range": [0, 1_000]} for tag in tags]}
        | table
        for s, tags in enumerate(_tag_names())
    ]


def _senses(protocol: str, port: int, **more: object) -> list[dict[str, Any]]:
    return [
        {"protocol": protocol, "stream": f"s{n}", "url": f"rtsp://127.0.0.1:{port}/{n}"} | more
        for n in range(NUM_SENSES)
    ]


def _plant(
    prefix: str, streams: list[dict[str, Any]], devices: list[dict[str, Any]]
) -> dict[str, Any]:
    parts = ("enterprise", "site", "area", "line", "cell", "asset")
    return {
        "prefix": prefix,
        "address": dict.fromkeys(parts, "bench"),
        "streams": streams,
        "devices": [{"name": f"d{number}"} | each for number, each in enumerate(devices)],
    }
