"""What holds for every test: property tests are never judged by their speed, which is the machine's."""

from hypothesis import HealthCheck, settings

settings.register_profile("marloop", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("marloop")
