"""The packages of npm that serve as independent clients, installed outside the repository, or the
reason why that can't be done here.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.tables import spaced

_HERE: Final = Path(__file__).parent / "integration" / "simulators" / "npm"
#: npm's words for a registry that can't be had; any other failure of the installation is a failure
#: of its own.
_NO_REGISTRY: Final = spaced("""
    ENOTFOUND EAI_AGAIN ECONNREFUSED ECONNRESET ETIMEDOUT E403 E407 E502 E503 ENETUNREACH
""")
_NODE_MIN: Final = 20
_INSTALL_S: Final = 90


def install(folder: Path, packages: Path = _HERE) -> str | None:
    """Puts the scripts and their node_modules into the folder, as the lock file has them; why not,
    where this machine can't.
    """
    if not (shutil.which("npm") and shutil.which("node")):
        return "no npm or no node here"
    major = int(
        subprocess.run(
            ["node", "-p", "process.versions.node"], capture_output=True, text=True, check=True
        ).stdout.split(".")[0]
    )
    if major < _NODE_MIN:
        return f"node {major} is older than the clients take"
    for path in packages.iterdir():
        shutil.copy(path, folder)
    argv = ["npm", "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "no answer from its registry"
    if done.returncode and any(word in done.stderr for word in _NO_REGISTRY):
        return "its registry can't be reached"
    if done.returncode:
        raise RuntimeError(done.stderr)
    return None
