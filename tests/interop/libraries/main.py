"""Packages that others have published for RFC 8935 and RFC 8936, run as they are. PROGRAMS names those that are there."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import runner
import scenarios_easyssf
import scenarios_okta

# By program: its scenarios, and the packages that it is made of.
PARTNERS = {
    "easyssf": (scenarios_easyssf, "easyssf-receiver, easyssf-receiver-axum and easyssf-test 0.7.0"),
    "okta": (scenarios_okta, "okta-sdk-golang 5.0.2"),
}

if __name__ == "__main__":
    there = [PARTNERS[program] for program in os.environ["PROGRAMS"].split()]
    sys.exit(runner.run([module for module, _ in there], ", ".join(packages for _, packages in there)))
