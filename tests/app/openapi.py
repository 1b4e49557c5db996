"""Print the OpenAPI document, for ``make openapi``."""

import json
import sys

from app.main import create_app
from app.settings import Settings

if __name__ == "__main__":
    sys.stdout.write(json.dumps(create_app(Settings()).openapi(), indent=1) + "\n")
