"""What holds for every test."""

from hypothesis import HealthCheck, settings

# Machines are shared and noisy, so no example has a deadline; what fails says how to repeat it.
settings.register_profile(
    "seqsvr", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("seqsvr")
