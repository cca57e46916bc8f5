"""When to try again.

The delay doubles with each attempt up to a cap and is jittered by a factor of 1/2..1, so that
the callers of a failed node do not come back in step. What a server asks for is a floor, jittered
upwards.
"""

FIRST_DELAY_S = 0.005
LAST_DELAY_S = 0.25


def delay_s(attempt: int, luck: float, retry_after_s: float = 0.0) -> float:
    """Seconds to wait after failed attempt number `attempt` (0 is the first).

    luck: uniform in [0, 1); retry_after_s: what the server asked for, 0 if nothing.
    """
    doubled = FIRST_DELAY_S * 2.0 ** min(attempt, 16)
    delay = min(LAST_DELAY_S, doubled) * (0.5 + luck / 2)
    return max(delay, retry_after_s * (1 + luck / 4))
