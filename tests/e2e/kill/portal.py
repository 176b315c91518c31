"""The demo's supplier portal as a program of its own.

python -m tests.e2e.kill.portal PASSWORD     prints {"port": …} when ready; ends with its input or on SIGTERM
"""

from __future__ import annotations

import asyncio
import json
import sys

from cpa.demo.portal import create_portal
from cpa.demo.serving import serve


async def main() -> None:
    async with serve(create_portal(sys.argv[1])) as url:
        print(json.dumps({"port": int(url.rpartition(":")[2])}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
