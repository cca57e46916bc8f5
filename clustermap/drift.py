"""How far clocks may be apart in their rates, and what that adds to a wait. Pure.  For LEASE-1."""

MAX_DRIFT = 0.01


def wait_ns(left_ns: int, max_drift: float) -> int:
    """How long to wait here for a lease that has `left_ns` to run on a replica's clock."""
    return left_ns + int(2 * max_drift * left_ns) + 1 if left_ns > 0 else 0
