import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from benchmarks import load
from benchmarks.load import Client

Answer = Callable[[int], bytes]


def ok(_: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def busy(_: int) -> bytes:
    return b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"


def against(
    answer: Answer, talk: Callable[[Client], Awaitable[object]], *, keep: bool = True
) -> tuple[object, list[bytes]]:
    """Talk to a server in this process; what came of it, and the requests that it got."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
                requests.append(head + await reader.readexactly(length))
                writer.write(answer(len(requests)))
                if not keep:
                    break
        writer.close()

    async def run() -> object:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Client(server.sockets[0].getsockname()[1], "/score", "file", b"PICTURE")
        result = await talk(client)
        await client.close()
        server.close()
        await server.wait_closed()
        # Until the server's side of every connection has ended.
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        return result

    return asyncio.run(run()), requests


def test_a_picture_is_sent_as_a_form() -> None:
    status, (request,) = against(ok, lambda client: client.post())
    assert status == 200
    assert b'name="file"' in request
    assert b"\r\n\r\nPICTURE\r\n--" in request


def test_a_connection_that_the_server_closes_is_replaced() -> None:
    async def twice(client: Client) -> list[int]:
        first = await client.post()
        while not client._idle[0][0].at_eof():
            await asyncio.sleep(0)
        return [first, await client.post()]

    assert against(ok, twice, keep=False)[0] == [200, 200]


def test_answers_other_than_200_are_told_apart() -> None:
    assert against(busy, lambda client: client.post())[0] == 429
    assert against(lambda _: b"no HTTP\r\n\r\n", lambda client: client.post())[0] == 0


def test_open_loop_gives_up_once_more_than_one_in_a_hundred_failed() -> None:
    due = [0.0] * 100 + [3600.0] * 100
    answer, _ = against(busy, lambda client: load.open_loop(client, due))
    assert isinstance(answer, dict)
    times = answer["times"]
    assert len(times) == 200
    assert all(sent is None for sent, _ in times[100:])
    assert all(done is None for _, done in times)


def test_open_loop_notes_when_answers_came() -> None:
    answer, requests = against(ok, lambda client: load.open_loop(client, [0.0, 0.01]))
    assert isinstance(answer, dict)
    assert len(requests) == 2
    assert all(due <= sent <= done for due, (sent, done) in zip([0.0, 0.01], answer["times"], strict=True))


def test_closed_loop_counts_what_failed() -> None:
    answer, requests = against(
        lambda number: busy(0) if number == 1 else ok(0), lambda client: load.closed_loop(client, 2, 0.05)
    )
    assert isinstance(answer, dict)
    assert answer["failed"] == [429]
    assert len(answer["latencies"]) == len(requests) - 1
