"""The peer that batches: LitServe around the network, pictures of several requests in one forward pass."""

import argparse
from typing import Annotated

import litserve
from fastapi import File
from torch import Tensor

from benchmarks.peers.eager import EagerNetwork


class ScoreAPI(litserve.LitAPI):  # type: ignore[misc]  # litserve is installed for the benchmark alone
    """Scores pictures in batches."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # the network chooses the same one
        """Load the network, in the worker process."""
        self.network = EagerNetwork()

    # As bytes: files of more than 1 MiB are on disk and cannot be handed on to the worker.
    def decode_request(self, request: Annotated[bytes, File()]) -> Tensor:
        """Decode and cut one picture."""
        return self.network.crops(request)

    def batch(self, inputs: list[Tensor]) -> list[Tensor]:
        """Keep the pictures apart: they may have different numbers of crops."""
        return inputs

    def predict(self, pictures: list[Tensor] | Tensor) -> list[float]:
        """Score a batch; without batching LitServe hands over a single picture."""
        return self.network.scores(pictures if isinstance(pictures, list) else [pictures])

    def unbatch(self, output: list[float]) -> list[float]:
        """One score for each picture."""
        return output

    def encode_response(self, output: float | list[float]) -> dict[str, float]:
        """The answer's JSON."""
        return {"score": output[0] if isinstance(output, list) else output}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--wait", type=float, required=True)
    arguments = parser.parse_args()
    api = ScoreAPI(max_batch_size=arguments.batch, batch_timeout=arguments.wait, api_path="/score")
    server = litserve.LitServer(api, workers_per_device=1)
    server.run(host="127.0.0.1", port=arguments.port, generate_client_file=False, log_level="warning")
