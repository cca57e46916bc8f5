"""`seqctl certs`: certificates that ssl, gRPC and a strict verifier take, and their files."""

import asyncio
import json
import multiprocessing
import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from clustermap.errors import MapUnavailable
from clustermap.etcd import EtcdCoordinator, EtcdOptions
from etcd_servers import Certificates, EtcdServers
from seqctl import certs_folder
from seqctl.__main__ import main
from seqctl.certs_issuing import LEAVES, hosts_of, new_authority
from seqctl.failures import NotDone

NAMES = [leaf.name for leaf in LEAVES]
SERVERS = [leaf.name for leaf in LEAVES if leaf.serves]
CALLERS = [leaf.name for leaf in LEAVES if leaf.calls]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "certs"
    certs_folder.init(found, ["alloc.example", "10.0.0.1"])
    return found


def cert(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def trusted(folder: Path) -> Store:
    return Store(x509.load_pem_x509_certificates((folder / "ca.crt").read_bytes()))


def shaken(folder: Path, server: str, client: str, host: str, ca: Path | None = None) -> None:
    """A handshake in which both show certificates. Raises ssl.SSLError."""
    ca = ca or folder / "ca.crt"
    here = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.crt"))
    here.verify_mode = ssl.CERT_REQUIRED
    there = ssl.create_default_context(cafile=str(ca))
    for context, name in ((here, server), (there, client)):
        context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        there.wrap_bio(to_client, to_server, server_hostname=host),
        here.wrap_bio(to_server, to_client, server_side=True),
    )
    left = list(ends)
    for _ in range(10):
        for end in list(left):
            try:
                end.do_handshake()
                left.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not left


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("client", CALLERS)
def test_servers_and_callers_shake_hands(folder: Path, server: str, client: str) -> None:
    for host in ("localhost", "127.0.0.1", "::1", "alloc.example", "10.0.0.1"):
        shaken(folder, server, client, host)


def test_a_host_that_was_not_named_is_refused(folder: Path) -> None:
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        shaken(folder, "server", "reader", "other.example")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SERVERS])
def test_a_callers_certificate_serves_nobody(folder: Path, name: str) -> None:
    with pytest.raises(ssl.SSLError):
        shaken(folder, name, "reader", "localhost")


def test_a_servers_certificate_calls_nobody(folder: Path) -> None:
    with pytest.raises(ssl.SSLError):
        shaken(folder, "peer", "server", "localhost")


def test_a_strict_verifier_takes_servers_by_the_rules_of_the_web(folder: Path) -> None:
    builder = PolicyBuilder().store(trusted(folder)).time(datetime.now(UTC))
    for name in SERVERS:
        verifier = builder.build_server_verifier(x509.DNSName("alloc.example"))
        assert len(verifier.verify(cert(folder, name), [])) == 2
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("b.example")).verify(cert(folder, "peer"), [])


async def test_grpc_takes_them_on_both_ends(folder: Path) -> None:
    def content(name: str) -> bytes:
        return (folder / name).read_bytes()

    server = grpc.aio.server()
    pairs = [(content("server.key"), content("server.crt"))]
    shown = grpc.ssl_server_credentials(pairs, content("ca.crt"), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", shown)
    await server.start()
    try:
        for key, crt in ((content("reader.key"), content("reader.crt")), (None, None)):
            own = grpc.ssl_channel_credentials(content("ca.crt"), key, crt)
            async with grpc.aio.secure_channel(f"127.0.0.1:{port}", own) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    call: Any = channel.unary_unary("/nothing/There")
                    await call(b"", timeout=20)
                wanted = grpc.StatusCode.UNIMPLEMENTED if key else grpc.StatusCode.UNAVAILABLE
                assert failed.value.code() is wanted, failed.value.details()
    finally:
        await server.stop(None)


async def test_etcd_lets_in_those_that_are_made_for_it_and_nobody_else(tmp_path: Path) -> None:
    """Though the same authority has signed for all of them."""
    shown = Certificates(tmp_path / "certs")
    with EtcdServers(tmp_path / "etcd", fsync=False, certificates=shown) as servers:
        for name in ("etcd", "reader", "operator", "peer"):
            files = (shown.folder / f"{name}.crt", shown.folder / f"{name}.key")
            options = EtcdOptions(servers.endpoints, "/a/", shown.ca, *files, timeout_s=2)
            coordinator = await EtcdCoordinator.open(options)
            try:
                async with asyncio.timeout(20):
                    await coordinator.get("")
                assert name == "etcd"
            except MapUnavailable:
                assert name != "etcd"
            finally:
                await coordinator.aclose()


@pytest.mark.parametrize("role", ["reader", "allocator", "operator"])
def test_a_role_is_a_uri_of_its_certificate(folder: Path, role: str) -> None:
    names = cert(folder, role).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == [f"seqsvr://role/{role}"]


def test_keys_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        certs_folder.init(tmp_path / "certs")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "certs").stat().st_mode) == 0o700
    keys = list((tmp_path / "certs").glob("*.key"))
    assert sorted(key.stem for key in keys) == sorted([*NAMES, "ca"])
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_another_run_keeps_the_authority_and_the_hosts_and_renews_the_rest(folder: Path) -> None:
    before = {name: cert(folder, name) for name in [*NAMES, "ca"]}
    certs_folder.init(folder)
    for name in NAMES:
        after = cert(folder, name)
        assert after.serial_number != before[name].serial_number
        assert after.public_key() != before[name].public_key()
        assert hosts_of(after) == hosts_of(before[name])
    assert cert(folder, "ca") == before["ca"]
    assert hosts_of(cert(folder, "server")) == ("alloc.example", "10.0.0.1")
    assert not list(folder.glob(".*")), "nothing is left over"
    shaken(folder, "server", "reader", "alloc.example")


def test_hosts_that_are_given_stand_for_those_of_the_last_time(folder: Path) -> None:
    certs_folder.init(folder, ["other.example"])
    shaken(folder, "server", "reader", "other.example")
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        shaken(folder, "server", "reader", "alloc.example")


def test_beside_a_new_authority_the_last_one_goes_on_being_trusted(
    folder: Path, tmp_path: Path
) -> None:
    old, first = tmp_path / "old.crt", cert(folder, "server")
    old.write_bytes((folder / "ca.crt").read_bytes())
    certs_folder.init(folder, new_ca=True)
    builder = PolicyBuilder().store(trusted(folder)).time(datetime.now(UTC))
    for leaf in (first, cert(folder, "server")):
        builder.build_server_verifier(x509.DNSName("localhost")).verify(leaf, [])
    with pytest.raises(ssl.SSLError):
        shaken(folder, "server", "reader", "localhost", old)
    certs_folder.init(folder, new_ca=True)
    assert len(x509.load_pem_x509_certificates((folder / "ca.crt").read_bytes())) == 2


def test_an_authority_without_its_key_is_left_alone(folder: Path) -> None:
    before = (folder / "server.crt").read_bytes()
    (folder / "ca.key").unlink()
    assert main(["certs", "init", str(folder)]) == 3
    (folder / "ca.key").write_bytes(new_authority(datetime.now(UTC)).key_pem())
    assert main(["certs", "init", str(folder)]) == 3
    assert (folder / "server.crt").read_bytes() == before


def test_a_run_that_was_cut_short_is_mended_by_the_next(folder: Path) -> None:
    (folder / "server.key").write_bytes((folder / "peer.key").read_bytes())
    (folder / "etcd.key").unlink()
    certs_folder.init(folder)
    shaken(folder, "server", "reader", "alloc.example")
    shaken(folder, "etcd", "etcd", "alloc.example")


def test_nothing_outlives_its_authority(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    pair = new_authority(now, days=2)
    tmp_path.chmod(0o700)
    files = (("ca.crt", pair.cert_pem(), 0o644), ("ca.key", pair.key_pem(), 0o600))
    certs_folder.replace(tmp_path, files)
    made = certs_folder.init(tmp_path, days=30)
    assert made["server"].not_valid_after_utc == made["ca"].not_valid_after_utc
    later = now + timedelta(days=3)
    with pytest.raises(NotDone, match="--new-ca"):
        certs_folder.init(tmp_path, now=later)
    certs_folder.init(tmp_path, new_ca=True, now=later)
    assert len(x509.load_pem_x509_certificates((tmp_path / "ca.crt").read_bytes())) == 1


def test_a_folder_that_others_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert main(["certs", "init", str(tmp_path)]) == 2
    assert not list(tmp_path.iterdir())


def _read_again_and_again(folder: Path, answers: "multiprocessing.Queue[int]") -> None:
    fits = 0
    for _ in range(2000):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(folder / "server.crt", folder / "server.key")
            fits += 1
        except ssl.SSLError as error:
            assert "KEY_VALUES_MISMATCH" in str(error), "half a file was seen"
    answers.put(fits)


def test_who_reads_while_files_are_renewed_never_sees_half_of_one(folder: Path) -> None:
    spawned = multiprocessing.get_context("spawn")
    answers = spawned.Queue()
    reader = spawned.Process(target=_read_again_and_again, args=(folder, answers))
    reader.start()
    while reader.is_alive():
        certs_folder.init(folder)
    assert reader.exitcode == 0
    assert answers.get(timeout=10) > 1000


@pytest.mark.parametrize("host", ["", "a b", "-", "a..b", "http://a", "a" * 300, "ä.example"])
def test_hosts_that_are_none_are_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(["certs", "init", str(tmp_path / "certs"), f"--host={host}"])
    assert left.value.code == 2
    assert not (tmp_path / "certs").exists()


def test_show_says_what_is_in_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "show", str(folder), "-o", "json"]) == 0
    found = {Path(row["file"]).stem: row for row in json.loads(capsys.readouterr().out)}
    assert set(found) == {*NAMES, "ca"}
    assert found["peer"]["roles"] == ["internal"] and found["reader"]["roles"] == ["reader"]
    assert found["server"]["days_left"] == 89 and found["server"]["problem"] == ""
    assert set(found["etcd"]["names"]) >= {"seqsvr-etcd", "alloc.example", "10.0.0.1"}
    assert main(["certs", "show", str(folder / "peer.crt")]) == 0
    assert "internal" in capsys.readouterr().out


def test_show_tells_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def problem(name: str) -> str:
        assert main(["certs", "show", str(folder / f"{name}.crt"), "-o", "json"]) == 1
        [row] = json.loads(capsys.readouterr().out)
        return str(row["problem"])

    (folder / "peer.key").write_bytes((folder / "server.key").read_bytes())
    assert problem("peer") == "peer.key is not its key"
    (folder / "peer.key").write_bytes(b"nothing")
    assert problem("peer") == "peer.key is no key that can be read"
    certs_folder.init(folder, now=datetime.now(UTC) - timedelta(days=200))
    assert problem("server") == "expired"
    certs_folder.init(folder, now=datetime.now(UTC) + timedelta(days=20))
    assert problem("server") == "does not hold yet"
    (folder / "server.crt").write_text("no certificate")
    assert main(["certs", "show", str(folder / "server.crt")]) == 2
    assert main(["certs", "show", str(folder / "missing.crt")]) == 2
