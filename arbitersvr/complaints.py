"""The same trouble again and again, logged now and then."""

import logging

PERIOD_NS = 10 * 10**9
MAX_KNOWN = 1_000

_log = logging.getLogger(__name__)


class Complaints:
    """Each topic is logged once per PERIOD_NS and Set at most."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], int] = {}

    def tell(
        self, now_ns: int, topic: str, name: str, text: str, error: BaseException | None = None
    ) -> None:
        """One line about the Set `name`; error: with its traceback."""
        if now_ns - self._told.get((topic, name), now_ns - PERIOD_NS) < PERIOD_NS:
            return
        if len(self._told) >= MAX_KNOWN:
            self._told.clear()
        self._told[topic, name] = now_ns
        _log.error("event=%s set=%s error=%r", topic, name, text, exc_info=error)
