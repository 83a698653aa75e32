"""make image: the build stage of deploy/Dockerfile step by step without Docker, in var/image; what
the image weighs and that its Python runs. As root (chroot) on Debian; what a step would install by
apt-get must be there.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "var/image"
#: Unpacked.
MB_MAX = 150
#: Where the Dockerfile has them -> where they are here.
PLACES = {
    "/opt/pushfleet": FOLDER / "environment",
    "/root-of-image": FOLDER / "root",
    "RUN python ": f"RUN {Path(sys.base_prefix) / 'bin/python3'} ",
}


def steps() -> list[tuple[str, str]]:
    """(RUN or COPY, its words) of the first stage."""
    text = re.sub(r"^#.*\n", "", (ROOT / "deploy/Dockerfile").read_text(), flags=re.MULTILINE)
    stage = text.partition(" AS build\n")[2].partition("\nFROM ")[0].replace("\\\n", " ")
    for there, here in PLACES.items():
        stage = stage.replace(there, str(here))
    found = [line.partition(" ") for line in stage.splitlines()]
    return [(verb, words) for verb, _, words in found if verb in ("RUN", "COPY")]


def do(verb: str, words: str, source: Path) -> None:
    if verb == "COPY":
        *copied, place = words.split()
        for one in copied:
            argv = ["git", "ls-files", "-co", "--exclude-standard", one]
            git = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
            for name in git.stdout.split():
                inside = Path(name).relative_to(one) if name != one else Path(name).name
                to = source / place / inside
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, to)
    elif not words.startswith("apt-get"):
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        subprocess.run(["sh", "-ec", words], cwd=source, env=own, check=True)


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    source = FOLDER / "source"
    source.mkdir(parents=True)
    for verb, words in steps():
        print(verb, words[:100], flush=True)
        do(verb, words, source)
    root = str(PLACES["/root-of-image"])
    packed = FOLDER / "image.tar.gz"
    with tarfile.open(packed, "w:gz", compresslevel=6) as archive:
        archive.add(root, arcname="")
    files = [path for path in Path(root).rglob("*") if path.is_file() and not path.is_symlink()]
    unpacked_mb = sum(path.stat().st_size for path in files) / 1e6
    command = f"{PLACES['/opt/pushfleet']}/bin/pushfleet"
    argv = ["chroot", "--userspec=10001:10001", root, command, "--version"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True)
    packed_mb = packed.stat().st_size / 1e6
    print(f"{told.stdout.strip()}: {unpacked_mb:.0f} MB unpacked, {packed_mb:.0f} MB compressed")
    sys.exit(unpacked_mb >= MB_MAX)


if __name__ == "__main__":
    main()
