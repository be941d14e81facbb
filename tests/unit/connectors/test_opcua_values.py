"""Whatever an OPC UA server says of a value is a reading, and never more than it says."""

# pyright: reportPrivateImportUsage=false, reportArgumentType=false

from __future__ import annotations

import math
from datetime import UTC, datetime

from asyncua import ua
from hypothesis import given
from hypothesis import strategies as st

from connectors.opcua.values import reading_of
from fusion.plant.devices import NodeSource
from fusion.schema import Quality

SOURCE = NodeSource(stream="process", tag="level", node="ns=2;s=Level")
T_NS = 1_800_000_000 * 10**9
stamps = st.none() | st.datetimes(timezones=st.just(UTC)) | st.datetimes()
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.binary(max_size=20), st.lists(st.floats(), max_size=5), st.just(datetime.now(UTC)),
)  # fmt: skip


@given(value=values, status=st.integers(0, 2**32 - 1), source=stamps, server=stamps)
def test_every_value_is_a_reading(
    value: object, status: int, source: datetime | None, server: datetime | None
) -> None:
    data = ua.DataValue(None, ua.StatusCode(status), source, server)
    object.__setattr__(data, "Value", type("Variant", (), {"Value": value})())
    reading = reading_of(SOURCE, data, t_receive_ns=T_NS)
    assert reading.t_receive_ns == T_NS
    assert 0 <= reading.status < 2**32
    if not isinstance(value, bool | int | float) or math.isnan(reading.value):
        assert math.isnan(reading.value)
        assert reading.quality is Quality.BAD
    if status >> 30 == 0 and not math.isnan(reading.value):
        assert reading.quality is Quality.GOOD
