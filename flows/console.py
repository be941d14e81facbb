"""The console on this machine's settings: builds its ports, serves it, tells the first password.

What a model is needed for (evidence, what-if, a step of a version) is imported when it is first
asked for: PyTorch takes a gigabyte, and a console that lists alarms needs none of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import uvicorn

from console.accounts import Accounts
from console.app import create_app
from console.ports import Beside, Compared, ModelCard, Outlook, Plan, Ports, SignOn, Step
from console.rights import parse_grant
from flows import wiring
from flows.health import serve_health
from flows.metrics.console import ConsoleMetrics
from flows.models import models_of, newest_model
from flows.rollout_journal import journal_of
from flows.rollout_seen import read_seen
from flows.settings import Settings
from flows.witness import RecordedWitness
from fusion.errors import InputError, SettingsError
from fusion.manifest import Manifest, load_manifest
from fusion.plant import Plant, Tag
from fusion.ports import Source

if TYPE_CHECKING:
    from fusion.planning import Candidate

GROUP = "console"
"""Commits nothing: every console reads everything for itself."""


def open_ports(plants: Sequence[Plant], settings: Settings) -> Ports:
    """Return what a console of ``plants`` needs; creates the topics that are not there."""
    prepared: list[Plant] = []

    def open_source(topics: Sequence[str]) -> Source:
        for plant in plants:
            if plant not in prepared:
                wiring.prepare_topics(settings, plant)
                prepared.append(plant)
        return wiring.open_source(settings, topics, GROUP)

    def cards(plant: Plant) -> list[ModelCard]:
        folders = models_of(settings, plant)
        newest = newest_model(settings, plant) if folders else None
        return [_card(load_manifest(each), is_newest=each == newest) for each in reversed(folders)]

    return Ports(
        plants=plants,
        clock=wiring.open_clock(),
        open_source=open_source,
        open_publisher=lambda: wiring.open_publisher(settings),
        witness=RecordedWitness(plants, settings),
        models_of=cards,
        steps_of=lambda plant: journal_of(settings, plant).entries(),
        figures_of=lambda plant, revision: _figures(plant, revision, settings),
        what_if=lambda plant, moved: _compare(plant, moved, settings),
        take_step=lambda step: _take_step(step, settings),
        open_alarm_log=lambda: wiring.open_alarm_log(settings),
        sign_on=_sign_on(settings),
    )


def _sign_on(settings: Settings) -> SignOn | None:
    provider = wiring.open_identity_provider(settings)
    if provider is None:
        return None
    if not settings.console_oidc_grants:
        raise SettingsError(
            "FUSION_CONSOLE_OIDC_GRANTS must say what roles of the identity provider may do here, "
            'and says nothing; set it to JSON such as {"shift-a": "operator@acme/north"}'
        )
    return SignOn(
        provider,
        back_uri=f"{settings.console_base_url}/login/oidc/back",
        name_claim=settings.console_oidc_name_claim,
        roles_claim=settings.console_oidc_roles_claim,
        grants={role: parse_grant(said) for role, said in settings.console_oidc_grants.items()},
    )


def _take_step(step: Step, settings: Settings) -> str:
    state = journal_of(settings, step.plants[0]).state()
    if state.revision != step.revision:
        raise InputError(
            f"a step must come after what was seen, revision {step.revision}, and another one was "
            f"faster: {state.told()}; look again"
        )
    from flows.rollout import promote, rollback  # noqa: PLC0415 PyTorch: once somebody takes a step

    if not step.version:
        return rollback(settings, step.plants[0], who=step.who, why=step.why).told()
    return promote(
        settings,
        step.plants,
        step.version,
        who=step.who,
        why=step.why,
        to_champion=step.to_champion,
    ).told()


def _figures(plant: Plant, revision: int, settings: Settings) -> list[Beside]:
    if not revision:  # (no step was taken, or none that can be read: nothing is tested)
        return []
    state = journal_of(settings, plant).state()
    tested = state.challenger or state.champion
    beside = state.champion if state.challenger else state.standby
    return [
        Beside(each.t_ns, tested, beside, each.seen)
        for each in read_seen(settings, plant)
        if each.revision == revision and tested in each.seen and beside in each.seen
    ]


def _compare(plant: Plant, moved: Mapping[str, float], settings: Settings) -> Compared:
    model_dir = newest_model(settings, plant)  # where there is none, nothing need be imported
    from flows.what_if import open_what_if, shown_tags  # noqa: PLC0415 PyTorch: once somebody asks
    from fusion.planning import Goal  # noqa: PLC0415
    from fusion.planning import what_if as compare  # noqa: PLC0415

    goal = Goal(())
    with open_what_if(plant, model_dir, settings) as asked:
        plans = compare(asked.reader, goal, scenarios={"asked for": dict(moved)}, search=None)
        tags = shown_tags(plant, goal, [])
        return Compared(
            t_ns=asked.t_end_ns,
            model_version=asked.manifest.version,
            horizons_s=asked.horizons_s,
            absent=asked.absent,
            plans=tuple(_plan(each, tags) for each in plans),
        )


def _plan(each: Candidate, tags: Sequence[tuple[int, Tag]]) -> Plan:
    return Plan(
        name=each.name,
        is_no_change=each.kind == "no change",
        confidence=each.confidence.value,
        limits=tuple(each.limits),
        outlooks=tuple(
            Outlook(
                tag.name,
                tag.unit,
                *(
                    tuple(of_HG[:, at].tolist())
                    for of_HG in (each.low_HG, each.median_HG, each.high_HG)
                ),
            )
            for at, tag in tags
        ),
    )


def _card(manifest: Manifest, *, is_newest: bool) -> ModelCard:
    return ModelCard(
        version=manifest.version,
        recipe=manifest.name,
        num_train_ticks=manifest.num_train_ticks,
        num_calibration_ticks=manifest.num_calibration_ticks,
        code_version=manifest.code_version,
        is_newest=is_newest,
        gauges=manifest.gauges[-1] if manifest.gauges else {},
    )


@contextlib.contextmanager
def open_accounts(settings: Settings) -> Iterator[Accounts]:
    """Yield the people of the console."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    accounts = Accounts(settings.console_database_url, wiring.open_clock())
    try:
        yield accounts
    finally:
        accounts.close()


def serve_console(
    plants: Sequence[Plant], settings: Settings, *, say: Callable[[str, str | None], None]
) -> None:
    """Serve the console of ``plants`` until a signal comes.

    ``say`` is told the address, and the one-time password of ``admin`` at the very first start.

    Raises:
        SettingsError: The address is not this machine's, or is taken.
    """
    host, _, port = settings.console_address.rpartition(":")
    is_https = settings.console_base_url.startswith("https")
    with open_accounts(settings) as accounts:
        app = create_app(open_ports(plants, settings), accounts, is_https=is_https)
        metrics = ConsoleMetrics(app)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=host,
                port=int(port),
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=5,
                ssl_certfile=settings.console_cert_file,
                ssl_keyfile=settings.console_key_file,
            )
        )
        say(
            settings.console_base_url,
            accounts.first_admin(),
        )
        try:
            with serve_health(metrics, settings.health_address, metrics.registry):
                server.run()
        except SystemExit as failed:  # uvicorn's way to say that it cannot listen
            raise SettingsError(
                f"FUSION_CONSOLE_ADDRESS must be free on this machine, got "
                f"{settings.console_address}; give another port"
            ) from failed
