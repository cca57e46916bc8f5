"""Who calls, and what is left of what it may take."""

from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry

from allocsvr.allowances import KEPT, Allowances, host
from allocsvr.limits import Limits
from svrprocess.guarding import Badge, Guard, counter
from svrprocess.identities import Identities, Identity, Shown, digest
from svrprocess.roles import CLIENT_PORT, Caller, Role

ALLOCATOR = frozenset({Role.ALLOCATOR})
ALICE = Caller("alice", frozenset())


class Own:
    """A badge that shows one caller."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller


class From:
    """A context: a call from somewhere."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer


def allowances(**rates: float) -> Allowances:
    return Allowances(Limits(**rates), lambda: 0.0)  # type: ignore[arg-type]


def of(found: Allowances, caller: Caller) -> Any:
    own: Any = Own(caller)
    return found.of(own, None)


def test_without_identities_a_host_is_one_caller_whatever_its_ports() -> None:
    found = allowances(requests_per_s=1.0)
    one = found.of(None, From("ipv4:10.0.0.1:1000"))
    assert found.of(None, From("ipv4:10.0.0.1:2000")) is one
    assert found.of(None, From("ipv4:10.0.0.2:1000")) is not one
    assert host("ipv6:%5B::1%5D:4711") == "ipv6:%5B::1%5D"


def test_rates_of_an_identity_go_before_those_of_the_options() -> None:
    found = allowances(requests_per_s=1.0, numbers_per_s=10.0)
    rates = of(found, replace(ALICE, requests_per_s=5.0)).purse.rates
    assert (rates.requests_per_s, rates.numbers_per_s) == (5.0, 10.0)


def test_one_caller_that_has_used_up_its_rate_is_no_harm_to_others() -> None:
    found = allowances(requests_per_s=1.0)
    alice, bob = of(found, ALICE), of(found, Caller("bob", frozenset()))
    assert [found.paid(alice, 0)[0] for _ in range(3)] == ["", "requests-per-s", "requests-per-s"]
    assert found.paid(bob, 0) == ("", 0.0)


def test_rates_that_change_are_in_force_and_those_that_do_not_are_not_filled_up() -> None:
    found = allowances(requests_per_s=1.0)
    found.paid(of(found, ALICE), 0)
    again = of(found, replace(ALICE, uids=((0, 9),)))  # other rights, the same rates
    assert found.paid(again, 0)[0] == "requests-per-s"
    more = of(found, replace(ALICE, requests_per_s=100.0))
    assert more is again and found.paid(more, 0)[0] == ""


def test_callers_that_owe_nothing_are_forgotten_and_others_are_not() -> None:
    found = allowances(requests_per_s=1.0)
    found.paid(of(found, ALICE), 0)
    for index in range(2 * KEPT):
        of(found, Caller(str(index), frozenset()))
    assert len(found._known) <= KEPT + 1
    assert found.paid(of(found, ALICE), 0)[0] == "requests-per-s"


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
