"""How a connection to a node is opened, and opened again."""

import asyncio

from seqsvr.channels import open_channel
from seqsvr.credentials import PLAIN


async def test_a_node_that_is_away_is_tried_several_times_a_second() -> None:
    """However long it has been away: the pause after it is back is time of a waiting call."""
    attempts = asyncio.Semaphore(0)

    async def turn_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.release()
        writer.close()

    async with await asyncio.start_server(turn_away, "127.0.0.1") as away:
        host, port = away.sockets[0].getsockname()
        async with open_channel(f"{host}:{port}", PLAIN) as channel:

            async def tried(times: int) -> None:
                for _ in range(times):
                    while attempts.locked():
                        channel.get_state(try_to_connect=True)
                        await asyncio.sleep(0.01)
                    await attempts.acquire()

            await tried(6)  # by then the pauses are as long as they get
            async with asyncio.timeout(6):
                await tried(10)
