"""A decoder that tests drive by hand."""

import asyncio
from collections.abc import Callable

from app.batching.submission import Priority
from app.decode.decoder import Decoded, Decoder, decode_here
from app.decode.sandbox import DecodeRequest
from app.observability.metrics import Metrics
from model.contract import Contract
from model.images import Limits
from tests.app.fakes import Clock, FakeSandbox, until
from tests.conftest import encode, photo


class Bench:
    """A decoder around a fake sandbox."""

    def __init__(self, contract: Contract, *, threads: int = 1, slots: int = 100, pixels: int = 1000) -> None:
        self.clock, self.metrics = Clock(), Metrics()
        request = DecodeRequest("", contract, Limits())
        self.sandbox = FakeSandbox(decode_here(encode(photo(100, 100)), request, lambda _: None), self.clock)
        self.decoder = Decoder(
            Limits(),
            threads=threads,
            max_decodes=slots,
            max_inflight_pixels=pixels,
            sandbox=self.sandbox,  # type: ignore[arg-type]
            metrics=self.metrics,
            clock=self.clock,
        )
        self._contract = contract

    @property
    def begun(self) -> list[str]:
        return self.sandbox.begun

    async def ask(
        self, *names: str, priority: Priority = Priority.INTERACTIVE, reserved: bool = False
    ) -> list["asyncio.Task[Decoded]"]:
        """Ask for pictures; the first letter of a name is its owner."""
        tasks = [
            asyncio.create_task(
                self.decoder.decode(
                    name.encode(),
                    "",
                    self._contract,
                    None,
                    preview=False,
                    reserved=reserved,
                    owner=name[0],
                    priority=priority,
                )
            )
            for name in names
        ]
        await asyncio.sleep(0)
        return tasks

    async def busy(self, *names: str) -> list["asyncio.Task[Decoded]"]:
        """Ask for pictures, and wait until threads have them."""
        tasks = await self.ask(*names)
        await until(lambda: {*names} <= {*self.begun})
        return tasks

    async def done(self, *names: str) -> None:
        """End pictures, and wait until as many others have begun."""
        many = len(self.begun) + len(names)
        self.sandbox.finish(*names)
        await until(lambda: len(self.begun) >= many)

    def value(self, name: str) -> float:
        text = self.metrics.render().text.decode()
        return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"smartiqa_{name} ")))


MakeBench = Callable[..., Bench]
