"""Replicas in this process, each on a socket, for what seqctl asks of them."""

import asyncio
from pathlib import Path
from typing import Any

import grpc

from seqctl.cluster_plan import Wanted, wanted_set
from storesvr.port import Identity
from storesvr.service import StoreService, add_to_server, open_service
from storesvr_world import S, fence, raising, renew

SECTIONS = 30


class Stores:
    """Replicas of Sets in this process, each on a socket; `aclose` ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.services: list[StoreService] = []
        self.addresses: list[str] = []
        self.servers: list[grpc.aio.Server] = []

    async def add(self, replica: str, set_name: str = "set-0") -> str:
        identity = Identity("c1", set_name, replica, 1_000, SECTIONS * 1_000)
        service = open_service(self._folder / f"{set_name}-{replica}", identity, create=True)
        server = grpc.aio.server()
        add_to_server(service, server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        self.services.append(service)
        self.servers.append(server)
        self.addresses.append(address)
        return address

    def wanted(self, **other: Any) -> Wanted:
        return Wanted((wanted_set(f"set-0={','.join(self.addresses[:3])}"),), **other)

    async def use(self) -> None:
        """Sections 0..4 are promised, raised and leased."""
        for service in self.services:
            await service.fence(fence(0, 4, 1))
            await service.raise_max(raising(0xA1, *((section, 1, 10) for section in range(5))))
            await service.renew(renew(0xA1, ttl_ns=50 * S))

    async def lose(self) -> None:
        """Those that there were are gone, and what is added then is blank."""
        for server in self.servers:
            await server.stop(0)
        await asyncio.gather(*(service.aclose() for service in self.services))
        self.services, self.servers, self.addresses = [], [], []
        self._folder /= "later"

    async def aclose(self) -> None:
        await self.lose()
