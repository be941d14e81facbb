"""What hides alarms by definition: operating modes, and alarms that explain others."""

from __future__ import annotations

from fusion.alarms.board import BY_DEFINITION, Board
from fusion.schema import AlarmState, Override, Score
from fusion.schema.alarms import OverrideKind


class Hiding:
    """Follows modes and parents."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.depth = [len(board.ancestors(at)) for at in range(len(board.watches))]
        """How many alarms lie above each; parents have fewer than what they mask."""
        self._maskable = [at for at, depth in enumerate(self.depth) if depth]
        self._parents = {up for at in self._maskable for up in board.ancestors(at)}
        self._moded = [at for at, w in enumerate(board.watches) if w.config.suppressed_in]
        self.is_dirty = True
        """Whether a parent changed since masks were last followed."""
        board.on_put.append(self._see)

    def follow_mode(self, score: Score) -> None:
        """Suppress what means nothing in the operating mode of ``score``, and nothing else."""
        board = self._board
        for at in self._moded:
            override = board.states[at].override("suppressed")
            is_meant = score.mode in board.config(at).suppressed_in
            why = f"operating mode {score.mode or 'none'}"
            if is_meant and override is None:
                board.cover(at, _ours("suppressed", why, score.t_end_ns), "suppressed", score.tick)
            elif override is not None and not is_meant:
                t_ns = score.t_end_ns
                board.uncover(at, "suppressed", "unsuppressed", t_ns, score.tick, why)

    def follow_masks(self, t_ns: int, stamp: int | str) -> None:
        """Mask and unmask what lies below parents that changed."""
        if self.is_dirty:
            for at in self._maskable:
                self.mask(at, t_ns, stamp)
            self.is_dirty = False

    def mask(self, at: int, t_ns: int, stamp: int | str) -> None:
        """Hide an alarm while one above it explains it, and is itself to be seen."""
        by = self._explained_by(at)
        override = self._board.states[at].override("masked")
        if by is not None and override is None:
            self._board.cover(at, _ours("masked", f"{by} stands", t_ns), "masked", stamp)
        elif by is None and override is not None:
            why = "what explained it is gone"
            self._board.uncover(at, "masked", "unmasked", t_ns, stamp, why)

    def _explained_by(self, at: int) -> str | None:
        """Return which standing alarm above explains this one.

        One that is hidden explains nothing, or nobody would see either; unless it is masked only:
        then what masks it is seen.
        """
        for up in self._board.ancestors(at):
            state = self._board.states[up]
            is_seen = all(each.kind == "masked" for each in state.overrides)
            if state.condition.is_standing and is_seen:
                return state.name
        return None

    def _see(self, at: int, _state: AlarmState) -> None:
        self.is_dirty |= at in self._parents


def _ours(kind: OverrideKind, why: str, t_ns: int) -> Override:
    return Override.model_validate(
        {"kind": kind, "who": BY_DEFINITION, "reason": why, "t_ns": t_ns}
    )
