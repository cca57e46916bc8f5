"""`seqctl advance`: all numbers of a uid are above a floor from then on."""

import argparse
import asyncio

from seqctl import advancing, arguments
from seqctl.changing import audited
from seqctl.credentials import client_of
from seqctl.failures import OK, WrongUsage
from seqctl.output import print_json, say

EXAMPLE = "seqctl advance 4711 --at-least 1000000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `seqctl advance`."""
    parser.add_argument("uid", metavar="UID", type=arguments.uid)
    parser.add_argument(
        "--at-least",
        metavar="N",
        type=arguments.seq,
        required=True,
        help="its next number is above N; if it stands there already, nothing is changed",
    )
    advancing.add_arguments(parser, timeout_s=10.0)


def run(args: argparse.Namespace) -> int:
    """The command: 0; a jump that is too large is wrong usage."""
    stood, stands = asyncio.run(_advance(args))
    if args.output == "json":
        risen = {"from": stood, "seq": stands, "at_least": args.at_least}
        print_json({"uid": args.uid, **risen, "dry_run": args.dry_run})
    elif stands == stood:
        say(f"uid {args.uid} stands at {stood} already")
    else:
        verb = "would rise" if args.dry_run else "rose"
        say(f"uid {args.uid} {verb} from {stood} to {stands}")
    return OK


async def _advance(args: argparse.Namespace) -> tuple[int, int]:
    """Where the uid stood before, and stands (or would stand) then."""
    what = f"advance {args.uid} --at-least {args.at_least} --max-jump {args.max_jump}"
    async with client_of(args, timeout=args.timeout) as client:
        stood = (await client.current(args.uid)).value
        jump = args.at_least - stood
        if jump > args.max_jump:
            text = f"{args.at_least} is {jump} above {stood}, where uid {args.uid} stands"
            raise WrongUsage(f"{text}: more than --max-jump {args.max_jump}")
        if args.dry_run or jump <= 0:
            return stood, max(stood, args.at_least)
        async with advancing.audit_map(args) as coordinator, audited(what, coordinator) as outcome:
            stands = await client.advance(args.uid, args.at_least, max_jump=args.max_jump)
            outcome.text = f"from {stood} to {stands}"
    return stood, stands
