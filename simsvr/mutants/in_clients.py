"""Bugs in the client: what it believes, and what it keeps."""

from simsvr.mutants.patches import Hunk, Mutant

ROUTING = "client/seqsvr/routing.py"
CLIENT = "client/seqsvr/client.py"

CLIENTS = (
    Mutant(
        "epoch-not-checked-by-the-client",
        ("ROUTE-1", "SEQ-4"),
        "what an owner has said that was superseded since is believed",
        (
            Hunk(
                ROUTING,
                "        if epoch < seen:\n            return False\n",
                "",
            ),
        ),
    ),
    Mutant(
        "table-version-falls",
        ("ROUTE-1",),
        "a client takes any table that it is given",
        (
            Hunk(
                ROUTING,
                "            if table.version <= held.version:\n                return False\n",
                "",
            ),
            Hunk(
                CLIENT,
                "        if held and message.cluster == held.cluster and "
                "message.version <= held.version:\n",
                "        if held is not None and message.version == held.version:\n",
            ),
        ),
    ),
    Mutant(
        "client-hoards-numbers",
        ("SEQ-1", "SEQ-4"),
        "a client takes two numbers at a time, and gives out the second one later",
        (
            Hunk(
                CLIENT,
                "        entry = self._entry(Op.NEXT, uid, 1, timeout)\n        # ",
                "        if kept := self._kept.pop(uid, 0):\n"
                "            return kept\n"
                "        entry = self._entry(Op.NEXT, uid, 2, timeout)\n        # ",
            ),
            Hunk(
                CLIENT,
                "            await self._insist([entry])\n        return entry.seq or 0\n",
                "            await self._insist([entry])\n"
                "        self._kept[uid] = (entry.seq or 0) + 1\n"
                "        return entry.seq or 0\n",
            ),
            Hunk(
                CLIENT,
                "        self._bound_loop: asyncio.AbstractEventLoop | None = None\n",
                "        self._bound_loop: asyncio.AbstractEventLoop | None = None\n"
                "        self._kept: dict[int, int] = {}\n",
            ),
        ),
    ),
)
