"""Rows of the list of alarms as HTML, each rendered once however many tabs show it."""

from __future__ import annotations

from collections import OrderedDict

from jinja2 import Environment

from console.picture import Shown

MAX_KEPT = 20_000


class RowCache:
    """Rendered rows by alarm and right; an alarm that changed is rendered again."""

    def __init__(self, environment: Environment) -> None:
        self._template = environment.get_template("alarm_row.html.j2")
        self._kept: OrderedDict[tuple[str, str, bool], tuple[Shown, str]] = OrderedDict()

    def row(self, shown: Shown, may_act: bool) -> str:  # noqa: FBT001 a callback's second argument
        """Return the row of ``shown``, with buttons for those who may use them."""
        key = (shown.state.plant, shown.state.name, may_act)
        kept = self._kept.get(key)
        if kept is not None and kept[0] is shown:
            return kept[1]
        html = self._template.render(shown=shown, may_act=may_act)
        self._kept[key] = (shown, html)
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return html
