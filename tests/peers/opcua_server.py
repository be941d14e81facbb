"""asyncua's own server, in a process of its own so that it can be killed and frozen.

Lines on its standard input: ``say VALUE``, ``bad STATUS``, ``flood N``, ``report KILOBYTES TIMES``;
it answers ``ok``.
"""

# pyright: reportPrivateImportUsage=false, reportArgumentType=false
# (asyncua exports nothing by name, and its types are those of the wire.)

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from asyncua import Node, Server, ua
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.crypto.truststore import TrustStore
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from asyncua.server.user_managers import UserManager

NAMESPACE = "urn:tests:plc"


class TwoUsers(UserManager):
    """One is known by name and password, one by certificate."""

    def __init__(self, known: bytes) -> None:
        self.known = known

    def get_user(self, iserver, username=None, password=None, certificate=None):  # noqa: ANN001, ANN201
        if (username, password) == ("operator", "right"):
            return User(role=UserRole.User, name="operator")
        # The channel's certificate is the edge's own: nobody logs in with that one.
        if username is None and certificate == self.known:
            return User(role=UserRole.User, name="known")
        return None


async def serve(port: int, num_tags: int, certificates: Path | None) -> None:
    users = None if certificates is None else TwoUsers((certificates / "user.der").read_bytes())
    server = Server(user_manager=users)
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plc")
    await server.set_application_uri("urn:tests:server")
    if certificates is None:
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    else:
        server.set_security_policy(
            [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt],
            permission_ruleset=SimpleRoleRuleset(),
        )
        await server.load_certificate(str(certificates / "server.der"))
        await server.load_private_key(str(certificates / "server-key.pem"))
        store = TrustStore([certificates / "trusted"], [])
        await store.load()
        options = (
            CertificateValidatorOptions.TRUSTED_VALIDATION | CertificateValidatorOptions.PEER_CLIENT
        )
        server.set_certificate_validator(CertificateValidator(options, store))
    index = await server.register_namespace(NAMESPACE)
    line = await server.nodes.objects.add_object(index, "Line1")
    tags = [
        await line.add_variable(ua.NodeId(f"Line1.Tag{n}", index), f"Tag{n}", 0.0)
        for n in range(num_tags)
    ]
    # Larger than any answer may be: who looks for tags must not read it.
    await line.add_variable(ua.NodeId("Line1.Waveform", index), "Waveform", [0.0] * 700_000)
    report = await line.add_variable(ua.NodeId("Line1.Report", index), "Report", "")
    unit = ua.EUInformation(DisplayName=ua.LocalizedText("%"), UnitId=20529)
    await tags[0].add_property(0, "EngineeringUnits", unit)
    await tags[0].add_property(0, "EURange", ua.Range(Low=0.0, High=100.0))
    async with server:
        await server.historize_node_data_change([tags[0], report], count=100_000)
        print("ready", flush=True)  # noqa: T201
        loop = asyncio.get_running_loop()
        while line_in := await loop.run_in_executor(None, sys.stdin.readline):
            await obey(server, tags, report, line_in.split())
            print("ok", flush=True)  # noqa: T201


async def obey(server: Server, tags: list, report: Node, words: list[str]) -> None:
    now = datetime.now(UTC)
    storage = cast("Any", server.iserver.history_manager.storage)
    if words[0] == "say":
        kept = storage._datachanges[tags[0].nodeid]
        before = await tags[0].read_data_value(raise_on_bad_status=False)
        num_kept, is_news = len(kept), before.Value.Value != float(words[1])
        now += timedelta(seconds=float(words[2]))
        value = ua.DataValue(
            ua.Variant(float(words[1]), ua.VariantType.Double), SourceTimestamp=now
        )
        await tags[0].write_value(value)
        # The server's own history misses what is said too fast.
        while is_news and len(kept) == num_kept:
            await asyncio.sleep(0.005)
    elif words[0] == "bad":
        value = ua.DataValue(None, ua.StatusCode(int(words[1], 16)), now)
        await tags[0].write_value(value)
    elif words[0] == "report":
        kept = storage._datachanges[report.nodeid]
        for _ in range(int(words[2])):
            num_kept, now = len(kept), datetime.now(UTC)
            text = ua.Variant(f"{now} ".ljust(1_000 * int(words[1]), "x"), ua.VariantType.String)
            await report.write_value(ua.DataValue(text, SourceTimestamp=now))
            # (As above: the server's own history misses what is said too fast.)
            while len(kept) == num_kept:
                await asyncio.sleep(0.01)
    elif words[0] == "flood":
        for tag in tags:
            variant = ua.Variant(float(words[1]), ua.VariantType.Double)
            await tag.write_value(ua.DataValue(variant, SourceTimestamp=now))


if __name__ == "__main__":
    folder = None if sys.argv[3] == "-" else Path(sys.argv[3])
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), folder))
