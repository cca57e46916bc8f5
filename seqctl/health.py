"""`seqctl health`: what one server, whichever it is, says of its health; for health checks."""

import argparse
import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from seqctl import arguments, credentials
from seqctl.credentials import credentials_of
from seqctl.failures import OK, NotDone
from seqctl.groups import add_output
from seqctl.output import print_json, say
from seqsvr.channels import explained
from seqsvr.credentials import Credentials
from svrprocess.values import REACHED

EXAMPLE = "seqctl health 10.0.0.4:7421 --service seqsvr.ready"
TIMEOUT_S = 2.0
_Status = health_pb2.HealthCheckResponse.ServingStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `seqctl health`."""
    parser.add_argument("address", metavar="HOST:PORT", type=_address)
    parser.add_argument(
        "--service",
        metavar="NAME",
        default="",
        help="seqsvr.ready: may it be sent traffic? Default: is it alive?",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=arguments.seconds,
        default=TIMEOUT_S,
        help=f"how long it may take to answer (default {TIMEOUT_S:g})",
    )
    credentials.add_arguments(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """0 where it says SERVING. Raises NotDone where it says anything else, or nothing."""
    asked = _ask(args.address, args.service, args.timeout, credentials_of(args))
    said, why = asyncio.run(asked)
    if args.output == "json":
        print_json({"address": args.address, "service": args.service, "status": said})
    elif said == _Status.Name(_Status.SERVING):
        say(said)
    if said != _Status.Name(_Status.SERVING):
        raise NotDone(f"{args.address}: {said}{why and f': {why}'}")
    return OK


async def _ask(
    address: str, service: str, timeout_s: float, credentials: Credentials
) -> tuple[str, str]:
    """The status, and where the call failed, as grpc's, what it says beside that."""
    async with credentials.channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            return str(_Status.Name((await stub.Check(request, timeout=timeout_s)).status)), ""
        except grpc.aio.AioRpcError as error:
            failed = error.code() is grpc.StatusCode.UNAVAILABLE
            why = explained(error.details() or "", credentials) if failed else ""
            return str(error.code().name), why


def _address(text: str) -> str:
    try:
        return str(REACHED.parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
