"""Asks a server many things at once in a process of its own, and prints what came of each, and its memory.

usage: ask_bad_servers.py URL COUNT CONCURRENCY TIMEOUT
"""

from __future__ import annotations

import json
import resource
import sys
import time

from karma_plugins.models import Endpoint
from karma_plugins.requesting import ChatRequest, complete
from karma_plugins.requesting.spending import Limits

if __name__ == "__main__":
    url, count, concurrency, timeout = sys.argv[1:]
    limits = Limits(concurrency=int(concurrency), timeout=float(timeout), retries=1, backoff=0.001)
    requests = [ChatRequest([{"role": "user", "content": f"{i}"}], max_tokens=9) for i in range(int(count))]
    begun = time.monotonic()
    replies = complete(Endpoint(endpoint=url, model="echo-1"), requests, limits)
    took = time.monotonic() - begun
    sys.stdout.write(
        json.dumps(
            {
                "replies": [[reply.text, reply.failure] for reply in replies],
                "seconds": took,
                "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )
