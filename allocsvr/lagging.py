"""How late the event loop runs: a busy one must not starve the lease unnoticed."""

from allocsvr.metrics import Metrics
from clustermap.clock import Clock
from clustermap.logs import get_logger

log = get_logger(__name__)

PERIOD_S = 0.1
SHARE_OF_TTL = 5  # a renewal is due that often; a loop later than that has missed one
QUIET_S = 10.0


async def watch_loop(clock: Clock, metrics: Metrics, ttl_s: float) -> None:
    """Measure until cancelled; says so, at most every QUIET_S, where a renewal was missed by it."""
    quiet_until_ns = 0
    while True:
        due_ns = clock.now_ns() + int(PERIOD_S * 1e9)
        await clock.sleep(PERIOD_S)
        now_ns = clock.now_ns()
        lag_s = max(0, now_ns - due_ns) / 1e9
        metrics.loop_lag.observe(lag_s)
        if lag_s > ttl_s / SHARE_OF_TTL and now_ns >= quiet_until_ns:
            quiet_until_ns = now_ns + int(QUIET_S * 1e9)
            log.warning("loop_lag", seconds=round(lag_s, 3), lease_ttl_s=ttl_s)
