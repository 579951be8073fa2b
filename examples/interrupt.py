"""Talk while it talks: ask, read a little, and ask something else. The first answer stops at once.

    $ python interrupt.py http://127.0.0.1:8000

On asyncio it is the same, but for `asyncio.run(main())` in the last line.
"""

import sys

import trio

from trialogue_adapters.client import connect


async def main():
    async with connect(sys.argv[1]) as chat:
        story = await chat.send("Tell me a long story about a lighthouse, its keeper, and the sea around it.")
        async for token in story:
            print(token, end="", flush=True)
            if len(story.tokens) == 5:
                break
        weather = await chat.send("Never mind. Will it rain?")
        print(f"[{await story.ended()}]")
        async for token in weather:
            print(token, end="", flush=True)
        print(f"[{weather.ending}] from {weather.sources[0]['title']}")


trio.run(main)
