"""One plain sentence that says what is wrong, for people who have ten seconds."""

from __future__ import annotations

from collections.abc import Sequence

from fusion.alarms.floods import FloodWatch
from fusion.plant import Plant
from fusion.schema import AlarmConfig, Score, StreamHealth, TagForecast

_SENSE = {"telemetry": "Telemetry", "audio": "Sound", "video": "Picture"}


def surprise_sentence(score: Score, plant: Plant) -> str:
    """Return which sense deviates most, with its share, and the signal that does so most."""
    stream = max(score.shares, key=lambda name: score.shares[name])
    sense = _SENSE[plant.stream(stream).modality]
    sentence = f"{sense} ({stream}) deviates most ({score.shares[stream]:.0%} of the surprise)"
    signal = next((s for s in score.signals if s.stream == stream), None)
    if signal is None:
        return f"{sentence}."
    return (
        f"{sentence}: {signal.tag} is {signal.actual:.4g}{_unit(signal.unit)}, "
        f"expected {signal.expected:.4g}."
    )


def forecast_sentence(forecast: TagForecast) -> str:
    """Return where the tag is heading and how soon it is there."""
    beyond = "above" if forecast.limit_side == "high" else "below"
    where = f"{beyond} its limit of {forecast.limit:g}{_unit(forecast.unit)}"
    now = f"{forecast.tag} is {forecast.now:.4g}{_unit(forecast.unit)}"
    _, median_s, _ = forecast.t_cross_s
    if median_s == 0:
        return f"{now}, {where}."
    when = "soon" if median_s is None else f"in about {median_s:.0f} s"
    return f"{now} and will be {where} {when} ({forecast.p_cross:.0%} likely)."


def skew_sentence(health: StreamHealth, plant: Plant) -> str:
    """Return whose clock is off, by how much, and the two ways to mend it."""
    assert health.skew_s is not None, "an unknown skew raises nothing"
    side = "behind" if health.skew_s > 0 else "ahead of"
    others = "the plant's other streams" if len(plant.streams) > 1 else "its receiver"
    declared_s = plant.stream(health.stream).clock_offset_s - health.skew_s
    return (
        f"The clock of {health.stream} is {abs(health.skew_s):.3g} s {side} {others}; at most "
        f"{plant.max_skew_s:g} s is allowed. Set its sender by NTP, or declare clock_offset_s: "
        f"{declared_s:.3f} for {health.stream} in the plant file."
    )


def limit_sentence(config: AlarmConfig, value: float) -> str:
    """Return what the tag is, and which limit it has crossed.

    Example:
        >>> high = AlarmConfig(plant="p", name="hot", kind="alarm", finding="limit", tag="oil",
        ...     unit="degC", asset="a", priority="low", on=90, off=88, on_delay_s=0, off_delay_s=0)
        >>> limit_sentence(high, 91.26)
        'oil is 91.26 degC, above its limit of 90 degC.'
    """
    beyond = "above" if config.off < config.on else "below"
    return (
        f"{config.tag} is {value:.4g}{_unit(config.unit)}, {beyond} its limit of "
        f"{config.on:g}{_unit(config.unit)}."
    )


def input_sentence(stream: str, missing: Sequence[str], num_frozen: int) -> str:
    """Return what does not come, and that nothing is concluded from it.

    Example:
        >>> input_sentence("process", ["level"], 1)
        'No usable data from level of process: 1 alarm that needs it stays as it was.'
    """
    what = f"{', '.join(missing)} of {stream}" if missing else stream
    frozen = (
        "1 alarm that needs it stays as it was"
        if num_frozen == 1
        else f"{num_frozen} alarms that need it stay as they were"
    )
    return f"No usable data from {what}: {frozen}."


def flood_sentence(flood: FloodWatch) -> str:
    """Return how many alarms came, of which assets, and which was the first of each."""
    parts = [
        f"{asset}: {count}, first {flood.first_outs[asset]}"
        for asset, count in flood.by_asset().items()
        if asset in flood.first_outs
    ]
    return f"{flood.count} alarms in 10 minutes ({'; '.join(parts[:5])})."


def sentence_of(  # noqa: PLR0917 what each kind of finding has to say
    config: AlarmConfig,
    level: float,
    score: Score,
    plant: Plant,
    missing: Sequence[str],
    num_frozen: int,
) -> str:
    """Return what an alarm that ``score`` raises says."""
    if config.finding == "forecast":
        return forecast_sentence(next(f for f in score.forecasts if f.tag == config.tag))
    if config.finding == "limit":
        return limit_sentence(config, level)
    if config.finding == "input":
        return input_sentence(config.streams[0], missing, num_frozen)
    return surprise_sentence(score, plant)


def _unit(unit: str) -> str:
    """Return the unit behind a number; UCUM's 1 is none.

    Example:
        >>> f"0.5{_unit('1')}, 0.5{_unit('bar')}"
        '0.5, 0.5 bar'
    """
    return "" if unit in {"", "1"} else f" {unit}"
