"""What holds for every test."""

import signal

from hypothesis import HealthCheck, settings

# Machines are shared and noisy, so no example has a deadline; what fails says how to repeat it.
settings.register_profile(
    "seqsvr", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("seqsvr")

# A shell that starts a job in the background has it ignore SIGINT, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
