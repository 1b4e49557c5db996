"""What Ray's ``setup_worker.py`` and ``default_worker.py`` do together, but in one process.

The first of them would start Python anew for the second, and torch would be imported anew.
"""

import json
import runpy
import sys

if __name__ == "__main__":
    # Else all forks would draw the same random numbers for what Ray gives a name.
    assert "ray" not in sys.modules
    from ray._private.utils import update_envs
    from ray._private.workers import default_worker, setup_worker

    known, others = setup_worker.parser.parse_known_args()
    update_envs(json.loads(known.serialized_runtime_env_context or "{}").get("env_vars", {}))
    sys.argv = [default_worker.__file__, *others]
    runpy.run_path(default_worker.__file__, run_name="__main__")
