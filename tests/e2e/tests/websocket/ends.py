"""Both ends of WebSockets (RFC 6455), of Debian's python3-websockets.

serve ADDRESS            echoes what it gets
ask ADDRESS COUNT MANY   sends COUNT messages on four connections, MANY under way on each, and then
                         fragments, pings and a large message; tells as JSON what passed
"""

import asyncio, json, sys
from collections import Counter
import websockets

PORT = 8080
CONNECTIONS = 4


async def serve(address):
    async def echo(socket):
        try:
            async for message in socket:
                await socket.send(message)
        except websockets.ConnectionClosed:
            pass

    # As shipped: messages are compressed where the client agrees, and pings go out on their own.
    async with websockets.serve(echo, address, PORT, ping_interval=None, max_size=None):
        print("ready", flush=True)
        await asyncio.Future()


async def talk(address, number, count, many, passed):
    compression = "deflate" if number % 2 else None
    options = {"compression": compression, "ping_interval": None, "max_size": None}
    async with websockets.connect(f"ws://{address}:{PORT}/room/{number}?token=s3cr3t", **options) as socket:
        room = asyncio.Semaphore(many)

        async def send():
            for index in range(count):
                await room.acquire()
                text = index % 2 == 0
                await socket.send("s3cr3t" * (index % 40) if text else b"s3cr3t" * (index % 400))
                passed["client text" if text else "client binary"] += 1

        async def receive():
            for _ in range(count):
                got = await socket.recv()
                passed["server text" if isinstance(got, str) else "server binary"] += 1
                room.release()

        await asyncio.gather(send(), receive())
        # One message in three fragments, which comes back as one.
        await socket.send(["one", "two", "three"])
        await socket.recv()
        for end in ("client", "server"):
            passed[f"{end} text"] += 1
        # The other end answers by itself.
        await (await socket.ping(b"s3cr3t"))
        passed["client ping"] += 1
        passed["server pong"] += 1
        await socket.send(bytes(1 << 20))
        assert len(await socket.recv()) == 1 << 20
        for end in ("client", "server"):
            passed[f"{end} binary"] += 1
        await socket.close(1000 if number < 2 else 4001, "s3cr3t")
    passed["client close"] += 1
    passed["server close"] += 1


async def ask(address, count, many):
    passed = Counter()
    each = count // CONNECTIONS
    await asyncio.gather(*(talk(address, number, each, many, passed) for number in range(CONNECTIONS)))
    print(json.dumps(passed), flush=True)


if sys.argv[1] == "serve":
    asyncio.run(serve(sys.argv[2]))
else:
    asyncio.run(ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
