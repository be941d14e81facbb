"""The records on the broker: envelope, payloads and their codec."""

from fusion.schema.codec import decode_payload, encode
from fusion.schema.findings import (
    AlarmCommand,
    AlarmEvent,
    AlarmState,
    Condition,
    Judgement,
    Score,
    ShownState,
    SignalEvidence,
    StreamHealth,
    TagForecast,
    Verdict,
)
from fusion.schema.payloads import AudioChunk, Payload, Quality, TelemetryBatch, VideoFrame
from fusion.schema.records import (
    CLAIM_HEADER,
    MAX_CLAIMED_BYTES,
    MAX_RECORD_BYTES,
    UNREAD_HEADER,
    Envelope,
    Lost,
    Message,
    Record,
    TopicPartition,
    WireForm,
)
from fusion.schema.registry import WriterSchemas, schema_messages

__all__ = [
    "CLAIM_HEADER",
    "MAX_CLAIMED_BYTES",
    "MAX_RECORD_BYTES",
    "UNREAD_HEADER",
    "AlarmCommand",
    "AlarmEvent",
    "AlarmState",
    "AudioChunk",
    "Condition",
    "Envelope",
    "Judgement",
    "Lost",
    "Message",
    "Payload",
    "Quality",
    "Record",
    "Score",
    "ShownState",
    "SignalEvidence",
    "StreamHealth",
    "TagForecast",
    "TelemetryBatch",
    "TopicPartition",
    "Verdict",
    "VideoFrame",
    "WireForm",
    "WriterSchemas",
    "decode_payload",
    "encode",
    "schema_messages",
]
