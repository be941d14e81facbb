"""Whatever happens, in whatever order: the laws that an alarm system must never break.

Every activation is journalled, nothing is hidden without a name and an end, what is on the topic is
what is in memory, and an acknowledgement is lost to nothing but a new reason to look.
"""

from __future__ import annotations

import json

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fusion.alarms import AlarmEngine
from fusion.plant import NANOSECONDS
from fusion.schema import AlarmCommand, AlarmEvent, AlarmState, Condition
from tests.unit.alarms.plants import PLANT, score

NAMES = [alarm.name for alarm in PLANT.alarms]
ACTIONS = (
    "acknowledge",
    "acknowledge",
    "reset",
    "shelve",
    "unshelve",
    "remove-from-service",
    "return-to-service",
    "comment",
    "judge",
)
SHOWS_AGAIN = {"unshelved", "unsuppressed", "unmasked", "in-service"}
LEVELS = st.sampled_from([0.5, 1.5, 5, 8.9, 9.5, None])


class Alarms(RuleBasedStateMachine):
    """An engine, the topic of its states, and its journal."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = AlarmEngine(PLANT)
        self.topic: dict[str, AlarmState] = {}
        self.journal: list[AlarmEvent] = []
        self.before = {state.name: state for state in self.engine.states()}
        self.tick = 0
        self.num_commands = 0
        self.sent: list[AlarmCommand] = []

    def took(self, events: list[AlarmEvent]) -> None:
        self.journal += events
        self.topic |= {state.name: state for state in self.engine.take_changed()}
        after = {state.name: state for state in self.engine.states()}
        for name, state in after.items():
            own = [e for e in events if e.state.name == name]
            self.hold(self.before[name], state, own)
        self.before = after

    def hold(self, before: AlarmState, after: AlarmState, events: list[AlarmEvent]) -> None:
        """Hold one step of one alarm against its journal."""
        transitions = [e.transition for e in events]
        words = {"commented", "judged", "refused"}
        seen = [t for t in transitions if t not in words]
        assert after.revision == before.revision + len(seen), "what people see is journalled"
        if events:
            assert events[-1].state.revision == after.revision
        was_on, is_on = before.condition.is_standing, after.condition.is_standing
        assert (is_on and not was_on) == ("raised" in transitions)
        assert (was_on and not is_on) == ("cleared" in transitions)
        if before.is_acknowledged and not after.is_acknowledged:
            assert {"raised", "re-alarmed"} & {*transitions} or SHOWS_AGAIN & {*transitions}
        if after.is_acknowledged and not before.is_acknowledged:
            assert transitions == ["acknowledged"], "nothing but a person acknowledges"

    @rule(
        surprise=st.sampled_from([0.0, 0.8, 1.5, 1.5]),
        level=LEVELS,
        oil=st.sampled_from([20, 55, 65, 85, None]),
        speed=st.sampled_from([0.5, 45, 60, 60]),
        has_data=st.sampled_from([True, True, True, False]),
        skip=st.sampled_from([0] * 9 + [5]),
        repeat=st.integers(1, 4),
    )
    def see(
        self,
        *,
        surprise: float,
        level: float | None,
        oil: float | None,
        speed: float,
        has_data: bool,
        skip: int,
        repeat: int,
    ) -> None:
        self.tick += skip
        mode = "stopped" if speed <= 1 else None
        values = {"level": level, "oil": oil, "speed": speed}
        for _ in range(repeat):
            told = score(self.tick, surprise, mode=mode, has_data=has_data, **values)
            before = self.engine.states()
            self.took(self.engine.update(told))
            if not has_data:
                plain = {"surprise", "limit"}
                frozen = [s.condition for s in before if s.finding in plain]
                assert frozen == [s.condition for s in self.engine.states() if s.finding in plain]
            self.tick += 1

    @rule(
        name=st.sampled_from(NAMES),
        action=st.sampled_from(ACTIONS),
        behind=st.sampled_from([0, 0, 0, 1]),
        duration_s=st.sampled_from([None, 3, 3, 30, 1e9]),
        note=st.sampled_from(["", "works", "works"]),
        is_one_shot=st.booleans(),
    )
    def ask(
        self,
        *,
        name: str,
        action: str,
        behind: int,
        duration_s: float | None,
        note: str,
        is_one_shot: bool,
    ) -> None:
        self.num_commands += 1
        command = AlarmCommand.model_validate(
            {
                "id": f"c{self.num_commands}",
                "plant": str(PLANT.address),
                "name": name,
                "action": action,
                "expected_revision": self.before[name].revision - behind,
                "who": "ann",
                "t_ns": self.tick * NANOSECONDS,
                "duration_s": duration_s,
                "note": note,
                "is_one_shot": is_one_shot,
            }
        )
        self.sent.append(command)
        events = self.engine.command(command)
        answers = [e for e in events if e.command == command.id]
        assert len(answers) == 1, "every command has one answer"
        (answer,) = answers
        if answer.transition == "acknowledged":
            assert answer.state.is_acknowledged
        if answer.transition == "refused":
            assert answer.note
            assert answer.state == self.before[name]
        self.took(events)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        assert self.engine.command(data.draw(st.sampled_from(self.sent))) == []

    @rule(seconds=st.integers(1, 10))
    def fall_silent(self, seconds: int) -> None:
        now_ns = (self.engine.now_ns or 0) + seconds * NANOSECONDS
        self.took(self.engine.pass_time(now_ns))

    @rule()
    def restart(self) -> None:
        """Go on from the topic and the checkpoint, as they come back from JSON."""
        kept = json.loads(json.dumps(self.engine.snapshot()))
        states = [AlarmState.model_validate_json(s.model_dump_json()) for s in self.topic.values()]
        again = AlarmEngine(PLANT)
        assert again.restore(kept, states) == []
        assert again.snapshot() == self.engine.snapshot()
        self.engine = again
        # What never changed is as it began: nothing of it need be on the topic.
        assert self.engine.states() == list(self.before.values())
        assert {s.name for s in self.engine.take_changed()} == {*self.before} - {*self.topic}

    @invariant()
    def the_topic_is_what_is_in_memory(self) -> None:
        memory = {s.name: s for s in self.engine.states()}
        assert self.topic == {name: memory[name] for name in self.topic}
        untold = [s for name, s in memory.items() if name not in self.topic]
        assert all(s.condition is Condition.NORMAL and s.revision == 0 for s in untold)

    @invariant()
    def nothing_is_hidden_without_a_name_and_an_end(self) -> None:
        for state in self.engine.states():
            for override in state.overrides:
                if override.kind in {"shelved", "out-of-service"}:
                    assert override.who == "ann"
                    assert override.until_ns is not None
                    assert override.until_ns > (self.engine.now_ns or 0)
                else:
                    assert override.who == "plant file"

    @invariant()
    def what_masks_is_seen(self) -> None:
        states = {s.name: s for s in self.engine.states()}
        if states["warm"].override("masked"):
            assert states["hot"].condition.is_standing
            assert not states["hot"].is_hidden

    @invariant()
    def the_journal_tells_each_transition_once(self) -> None:
        ids = [event.id for event in self.journal]
        assert len(ids) == len(set(ids))
        newest = {e.state.name: e.state for e in self.journal}
        for name, told in newest.items():
            assert told.shown is self.before[name].shown, "the journal alone says what is shown"


TestAlarms = Alarms.TestCase
TestAlarms.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
