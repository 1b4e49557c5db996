"""The promises of the first page again, kept by replicas behind Ray Serve."""

from tests.e2e.test_service import *  # noqa: F403
