"""An asyncio server: answers each line from the newest configuration, and acts when a key changes."""

import asyncio
import os
import sys

import consulcfg


async def follow(cfg):
    async for change in cfg.changes("db/"):
        print(f"{change.key}: {change.old} -> {change.new}", flush=True)


async def main(address="127.0.0.1"):
    cfg = await consulcfg.open_async("billing")

    async def answer(reader, writer):
        while await reader.readline():
            greeting = cfg.get("greeting", "hello")
            writer.write(f"{greeting} from {os.getpid()}\n".encode())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, address, 8000)
    async with server:
        print("listening", flush=True)
        await asyncio.gather(server.serve_forever(), follow(cfg))


asyncio.run(main(*sys.argv[1:]))
