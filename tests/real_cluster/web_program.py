"""HTTP from a host of the network: `python -m real_cluster.web_program`, asked line by line.

{"url": URL, "body": JSON or null} is answered with {"text": ...} or {"error": ...}.
"""

import json
import sys
import urllib.request

TIMEOUT_S = 2.0


def answer(url: str, body: object) -> dict[str, str]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as reply:
            return {"text": reply.read().decode()}
    except OSError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(answer(question["url"], question["body"])), flush=True)
