"""The partner in Python: its scenarios."""

import sys
from importlib.metadata import version

import differential
import runner
import scenarios_dialled
import scenarios_dialling
import scenarios_faults
import scenarios_links
import scenarios_offline

MODULES = [
    scenarios_dialling, scenarios_dialled, scenarios_links, scenarios_faults, scenarios_offline, differential,
]
LIBRARIES = ["joserfc", "websockets", "aiohttp", "cryptography"]

if __name__ == "__main__":
    sys.exit(runner.run(MODULES, ", ".join(f"{name} {version(name)}" for name in LIBRARIES)))
