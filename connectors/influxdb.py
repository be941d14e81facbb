"""InfluxDB as a historian: new rows by time, over its HTTP interface (InfluxQL).

InfluxDB 1.x has it, 2.x and 3.x have it for databases that are mapped to buckets. What is asked is
a query of one series a time; an answer is bounded in rows, in bytes and in time.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import requests
from pydantic import SecretStr

from fusion.errors import DeviceRefusedError, DeviceUnavailableError, InputError
from fusion.plant import NANOSECONDS
from fusion.plant.devices import FieldSource, InfluxDevice
from fusion.ports import Clock, Observed, Reading
from fusion.schema import Quality

ROWS_PER_QUERY = 5_000
MAX_ANSWER_BYTES = 64 * 1024 * 1024
_READ_BYTES = 64 * 1024


class InfluxSession:
    """Implements :class:`fusion.ports.DeviceSession` for one database.

    Rows are read in the order of their times, ``settle_s`` after them. The position is the newest
    time of each series, so an outage costs nothing that the database still has.

    Raises:
        DeviceUnavailableError, DeviceRefusedError: No answer, or it does not take the login.
    """

    def __init__(
        self,
        device: InfluxDevice,
        position: str | None,
        *,
        clock: Clock,
        password: SecretStr | None = None,
    ) -> None:
        self._device = device
        self._clock = clock
        self._series = _by_series(device.fields)
        self._newest_ns: dict[str, int] = {} if position is None else json.loads(position)
        self._t_opened_ns = clock.now_ns()
        self._t_due_ns = clock.monotonic_ns()
        self._waiting = list(self._series)
        self._http = requests.Session()
        self._http.trust_env = False  # (a proxy of the environment is not in the plant file)
        if device.login is not None:
            assert password is not None, "wiring reads it"
            self._http.auth = (device.login.username, password.get_secret_value())
        try:
            self._ask("SHOW MEASUREMENTS LIMIT 1")
        except BaseException:
            self.close()
            raise

    @property
    def units(self) -> Mapping[str, str]:
        """InfluxDB states none."""
        return {}

    @property
    def is_ended(self) -> bool:
        """A database never ends."""
        return False

    @property
    def holds_until_ns(self) -> int | None:
        """A row is of its moment."""
        return None

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        """Return the next rows of one series; nothing while no poll is due."""
        wait_s = (self._t_due_ns - self._clock.monotonic_ns()) / NANOSECONDS
        if not self._waiting and wait_s > 0:
            self._clock.sleep(min(timeout_s, wait_s))
            return []
        if not self._waiting:
            self._waiting = list(self._series)
        if wait_s <= 0:
            self._t_due_ns = self._clock.monotonic_ns() + round(self._device.poll_s * NANOSECONDS)
        series = self._waiting[0]
        found, is_all = self._next_rows(series)
        if is_all:
            self._waiting.pop(0)
        return found

    def position(self) -> str:
        """Return the newest time of each series that was read."""
        return json.dumps(self._newest_ns)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _next_rows(self, series: str) -> tuple[list[Observed], bool]:
        """Return the next rows of ``series``, and whether there are no more of them now."""
        sources = self._series[series]
        now_ns = self._clock.now_ns()
        begin_ns = self._newest_ns.get(series, self._t_opened_ns)
        begin_ns = max(begin_ns, now_ns - round(self._device.max_history_s * NANOSECONDS))
        end_ns = now_ns - round(self._device.settle_s * NANOSECONDS)
        names = ", ".join(_quoted(source.field) for source in sources)
        rows = self._ask(
            f"SELECT {names} FROM {series} "  # noqa: S608 quoted, and of the plant file
            f"{'AND' if ' WHERE ' in series else 'WHERE'} time > {begin_ns} AND time <= {end_ns} "
            f"ORDER BY time ASC LIMIT {ROWS_PER_QUERY}"
        )
        is_all = len(rows) < ROWS_PER_QUERY
        if not is_all and rows[0][0] < rows[-1][0]:
            # The next query begins behind a time: rows of the last one may have been cut off.
            rows = [row for row in rows if row[0] < rows[-1][0]]
        found: list[Observed] = []
        for row in rows:
            t_ns = int(row[0])
            found += [
                _reading(source, value, t_ns, now_ns)
                for source, value in zip(sources, row[1:], strict=True)
                if value is not None
            ]
            self._newest_ns[series] = max(t_ns, self._newest_ns.get(series, 0))
        return found, is_all

    def _ask(self, query: str) -> list[list[Any]]:
        """Return the rows of one query."""
        device = self._device
        where = f"{device.name} must be reached at {device.url}"
        try:
            content = self._content(query)
            result = content["results"][0]
        except (requests.RequestException, OSError) as failed:
            raise DeviceUnavailableError(
                f"{where}, but {type(failed).__name__}; check the database and the network"
            ) from failed
        except (ValueError, TypeError, LookupError, RecursionError) as wrong:
            raise DeviceUnavailableError(
                f"{where} and answer as InfluxDB does, but {type(wrong).__name__}: {wrong}"[:500]
                + "; check the address"
            ) from wrong
        if error := result.get("error") or content.get("error"):
            raise InputError(
                f"{device.name} must ask for what the database {device.database!r} has, and it "
                f"says: {str(error)[:300]}; correct database and fields"
            )
        try:
            series = result.get("series") or [{"values": []}]
            return [list(row) for row in series[0]["values"]]
        except (TypeError, LookupError, AttributeError) as wrong:
            raise DeviceUnavailableError(
                f"{where} and answer with rows, but {type(wrong).__name__}; check the address"
            ) from wrong

    def _content(self, query: str) -> dict[str, Any]:
        asked = {"db": self._device.database, "q": query, "epoch": "ns"}
        t_end_s = time.monotonic() + 4 * self._device.timeout_s
        with self._http.get(
            f"{self._device.url.rstrip('/')}/query",
            params=asked,
            timeout=self._device.timeout_s,
            stream=True,
            allow_redirects=False,
        ) as answer:
            if answer.status_code in {401, 403}:
                raise DeviceRefusedError(
                    f"{self._device.name} at {self._device.url} refuses: {answer.status_code} "
                    f"{answer.reason}; check login and rights"
                )
            parts, size = list[bytes](), 0
            for part in answer.iter_content(_READ_BYTES):
                size += len(part)
                if size > MAX_ANSWER_BYTES or time.monotonic() > t_end_s:
                    raise requests.RequestException("the answer is too long")
                parts.append(part)
        content = json.loads(b"".join(parts))
        if "error" in content and "results" not in content:
            content["results"] = [{}]
        return content


def _by_series(fields: Sequence[FieldSource]) -> dict[str, list[FieldSource]]:
    """Return the fields that one query can give, by what stands behind FROM."""
    found: dict[str, list[FieldSource]] = {}
    for source in fields:
        terms = [f"{_quoted(key)} = {_text(value)}" for key, value in sorted(source.where.items())]
        series = _quoted(source.measurement)
        if terms:
            series += f" WHERE {' AND '.join(terms)}"
        found.setdefault(series, []).append(source)
    return found


def _quoted(name: str) -> str:
    r"""Return ``name`` as an identifier of InfluxQL.

    Example:
        >>> _quoted('a "b"')
        '"a \\"b\\""'
    """
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _reading(source: FieldSource, value: object, t_ns: int, t_receive_ns: int) -> Reading:
    number = math.nan
    if isinstance(value, bool | int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.nan
    quality = Quality.BAD if math.isnan(number) else Quality.GOOD
    return Reading(source.stream, source.tag, number, quality, t_ns, t_ns, t_receive_ns)
