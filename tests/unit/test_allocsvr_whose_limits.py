"""Whose limits are whose."""

from prometheus_client import CollectorRegistry

from allocsvr.allowances import Allowances
from allocsvr.limits import Limits
from svrprocess.guarding import Badge, Guard, counter
from svrprocess.identities import Identities, Identity, Shown, digest
from svrprocess.roles import CLIENT_PORT, Caller, Role

ALLOCATOR = frozenset({Role.ALLOCATOR})


def test_a_certificate_of_the_same_name_does_not_fill_the_purse_of_one_in_the_auth_file() -> None:
    billing = Caller("billing", ALLOCATOR, numbers_per_s=10.0)
    known = Identities([Identity(billing, (digest("secret"),))])
    guard = Guard(CLIENT_PORT, known, counter(CollectorRegistry()))
    token = Shown(digest("secret"))
    certificate = Shown(None, (b"seqsvr://role/allocator",), (), (b"billing",))
    allowances = Allowances(Limits(), lambda: 0.0)

    def asks(what: Shown, numbers: int) -> str:
        badge = Badge(guard, "GetSeq", CLIENT_PORT["/seqsvr.v1.Alloc/GetSeq"], what)
        return allowances.paid(allowances.of(badge, None), numbers)[0]

    assert asks(token, 1_000) == ""
    assert asks(token, 1) == "numbers-per-s"
    assert asks(certificate, 1) == ""
    assert asks(token, 1) == "numbers-per-s"
