"""`make doors`: real IM servers as cores. Prints and writes var/reports/doors.json; exit code 1
where one of them fails.
"""

import json
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.doors.synapse import environment, scenario_synapse
from tests.doors.world import Doors, doors
from tests.doors.xmpp import prosody_modules, scenario_ejabberd, scenario_prosody

SCENARIOS: dict[str, tuple[str, Callable[[Doors], dict[str, Any]]]] = {
    "synapse": (
        "",
        lambda world: scenario_synapse(world, environment(Path("var/doors-synapse").absolute())),
    ),
    "prosody": (
        "prosody",
        lambda world: scenario_prosody(
            world, prosody_modules(Path("var/doors-prosody").absolute())
        ),
    ),
    "ejabberd": ("ejabberdctl", scenario_ejabberd),
}


def keep_logs(world: Doors, name: str) -> None:
    """The logs of what failed, beside the report."""
    folder = Path("var/reports") / f"doors-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    for file in [
        *world.folder.glob("*.log"),
        *world.folder.glob(f"{name}/*.log"),
        *(world.core.runtime.settings.data_dir / "logs").glob("*"),
    ]:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.name)


def main(wanted: list[str]) -> int:
    report: dict[str, Any] = {}
    for name, (program, scenario) in SCENARIOS.items():
        if wanted and name not in wanted:
            continue
        if program and shutil.which(program) is None:
            reason = f"{program} is not installed: apt-get install {name}"
            report[name] = {"holds": None, "reason": reason}
            continue
        began = time.monotonic()
        try:
            with doors() as world:
                try:
                    report[name] = {"holds": True, **scenario(world)}
                except BaseException:
                    keep_logs(world, name)
                    raise
        except Exception as error:
            traceback.print_exc()
            report[name] = {"holds": False, "reason": f"{type(error).__name__}: {error}"[:500]}
        report[name]["seconds"] = round(time.monotonic() - began, 1)
        print(json.dumps({name: report[name]}, indent=1, ensure_ascii=False), flush=True)
    folder = Path("var/reports")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "doors.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return 1 if any(one["holds"] is False for one in report.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
