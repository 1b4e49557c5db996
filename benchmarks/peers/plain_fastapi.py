"""The simplest peer: one FastAPI endpoint around the network.

The endpoint runs in FastAPI's thread pool, so pictures are decoded side by side. A lock lets one forward pass run at a
time: passes side by side would only take the cores from each other.
"""

import argparse
import threading

import uvicorn
from fastapi import FastAPI, UploadFile

from benchmarks.peers.eager import EagerNetwork


def create_app(network: EagerNetwork) -> FastAPI:
    """Make the application."""
    app = FastAPI()
    lock = threading.Lock()

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/score")
    def score(file: UploadFile) -> dict[str, float]:
        crops = network.crops(file.file.read())
        with lock:
            return {"score": network.scores([crops])[0]}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(create_app(EagerNetwork()), port=parser.parse_args().port, log_level="warning")
