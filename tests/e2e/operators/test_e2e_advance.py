"""Floors through restarts: a graceful one goes on densely above them, a crash somewhere above."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import seqsvr
from processes import Services, free_port, seqctl
from processes.calls import plain
from real_cluster.cluster import RealCluster

STEP = 10_000


def done(*argv: object) -> Any:
    ended = seqctl(*argv, "-o", "json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout)


def test_an_import_outlives_a_graceful_restart_and_a_kill(
    services: Services, tmp_path: Path
) -> None:
    service = services().start()
    rng = random.Random(7)
    floors = {rng.randrange(300_000): rng.randrange(1, 10**6) for _ in range(5_000)}
    floors[5] = 3 * 10**6  # the highest of its section
    path = tmp_path / "floors.csv"
    path.write_text("uid,floor\n" + "".join(f"{uid},{floor}\n" for uid, floor in floors.items()))
    with plain(service.address) as calls:
        assert calls.next(6, 7) == 1
    floors.pop(6, None)
    at = ("--addr", service.address)
    first = done("import", path, *at)
    assert first["refused"] == 0 and first["advanced"] >= len(floors)
    assert done("advance", 250_001, "--at-least", 10**9, "--max-jump", 10**9, *at)["seq"] == 10**9
    floors[250_001] = 10**9

    service.restart()
    at = ("--addr", service.address)
    again = done("import", path, *at)
    assert (again["advanced"], again["already"]) == (0, again["lines"])
    sample = [5, 250_001, *rng.sample(sorted(floors), 200)]
    with plain(service.address) as calls:
        assert calls.current(6)[0] in (7, floors.get(6, 7)), "others of the section stay"
        for uid in sample:
            assert calls.current(uid) == (floors[uid], True)
            assert calls.next(uid) == floors[uid] + 1

    service.kill()
    service.start()
    with plain(service.address) as calls:
        for uid in sample:
            assert floors[uid] + 1 < calls.next(uid) <= 10**9 + 3 * STEP
        # One number is durable for all uids of a section: they go on from its highest floor.
        assert 3 * 10**6 < calls.next(99_999) <= 3 * 10**6 + 3 * STEP
        assert calls.next(100_000) <= 10**6 + 3 * STEP


async def test_advances_under_load_and_kills_break_no_promise(
    services: Services, tmp_path: Path
) -> None:
    service = services(port=free_port()).start()
    history, uids = tmp_path / "history", [0, 1, 2, 100_000]
    over = asyncio.Event()

    async def call_on(client: seqsvr.AsyncClient, rng: random.Random) -> None:
        while not over.is_set():
            uid = rng.choice(uids)
            kind = rng.choice(("next", "next", "current", "advance"))
            if kind == "next":
                await client.next_range(uid, rng.choice((1, 7)))
            elif kind == "current":
                await client.current(uid)
            else:
                stands = (await client.current(uid)).value
                await client.advance(uid, max(0, stands + rng.choice((-5, 1, 100, 2 * STEP))))

    async with seqsvr.AsyncClient(service.address, timeout=30, history=history) as client:
        callers = [asyncio.create_task(call_on(client, random.Random(n))) for n in range(8)]
        for _ in range(4):
            await asyncio.sleep(random.uniform(0.2, 0.5))
            service.kill()
            await asyncio.to_thread(service.start)
        over.set()
        await asyncio.gather(*callers)
    calls = [json.loads(line) for line in history.read_text().splitlines()]
    rose = [call for call in calls if call["op"] == "advance" and call["seq"] == call["at_least"]]
    assert len({call["epoch"] for call in rose}) > 2, "too little was tried"
    checked = seqctl("check", "--complete", history)
    assert checked.returncode == 0, checked.stdout
    # One more, of a number that an advance has left behind, is seen.
    late = calls[-1]["return_ns"]
    forged = {**rose[-1], "op": "next", "call_ns": late + 1, "return_ns": late + 2}
    with history.open("a") as lines:
        lines.write(json.dumps(forged) + "\n")
    assert seqctl("check", history).returncode == 1


def test_floors_hold_in_a_cluster_whose_nodes_are_drained_and_killed(cluster: RealCluster) -> None:
    uid, floor = 1_500, 2 * 10**6  # of a section that load leaves alone but for its last uid
    section = uid // cluster.shape.section_size
    at = ("--addr", cluster.seeds, "--timeout", "30")

    def command(*argv: object) -> Any:
        ended = cluster.seqctl(*map(str, argv), *at, "-o", "json")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return json.loads(ended.stdout)

    assert command("advance", uid, "--at-least", floor)["seq"] == floor
    owner = owner_of(cluster, command("route"), section)
    owner.leave()
    assert command("next", uid)["seq"] == floor + 1, "handed over with its counters"
    owner.start()
    owner = owner_of(cluster, command("route"), section)
    owner.kill()
    assert command("next", uid)["seq"] > floor + 2, "from a ceiling"
    owner.start()
    assert command("advance", uid, "--at-least", floor)["seq"] > floor


def owner_of(cluster: RealCluster, table: Any, section: int) -> Any:
    [address] = [
        route["address"]
        for route in table["routes"]
        if route["first_section"] <= section <= route["last_section"]
    ]
    [node] = [node for node in cluster.nodes if address.startswith(f"{node.host.ip}:")]
    return node
