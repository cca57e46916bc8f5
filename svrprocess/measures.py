"""The registry of a server program's metrics, with what every one of them shows of itself."""

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from svrprocess import incidents


def new_registry(program: str) -> CollectorRegistry:
    """Memory, processor time, descriptors; name and version of the program."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(incidents.COUNT)
    info = Gauge("seqsvr_build_info", "1.", ["program", "version"], registry=registry)
    info.labels(program, version("seqsvr")).set(1)
    return registry
