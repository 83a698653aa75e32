"""The file system of the container image: slim_root.py ENVIRONMENT FOLDER copies this Python, the
environment and the system libraries that either links to into FOLDER, and nothing else: no shell,
no package manager. Runs on Debian, with the Python of the environment's base.

Compiled modules are kept of what the fleet imports: a container's root is read-only, so what is
missing would be compiled anew at each start. The rest is compiled when somebody imports it.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Of the standard library: nobody imports them in a container. `site-packages` has pip only.
STDLIB_LEFT = (
    *("test", "idlelib", "turtledemo", "tkinter", "ensurepip", "lib2to3", "pydoc_data", "config-*"),
    *("site-packages", "turtle.py", "*.a", "_test*.so", "_ctypes_test*.so", "_xx*.so", "_tkinter*"),
)
#: Of packages: sources of what is compiled, and their own tests.
PACKAGE_LEFT = ("*.pyx", "*.pxd", "*.pyi", "*.c", "*.h", "testing")
#: What every process may import, so that it is compiled; what is left out needs an Alembic run or
#: the simulators.
WARM = """
import compileall, importlib, pkgutil, ssl
import alembic.command, celery.bin.worker, celery.worker.worker, celery.concurrency.thread
import celery.app.amqp, celery.app.control, celery.backends.base, kombu.transport.redis
import rich.progress, rich.table, sqlalchemy.dialects.postgresql.psycopg, uvicorn.lifespan.off
import uvicorn.loops.asyncio, uvicorn.protocols.http.httptools_impl
for name in ("common", "workers"):
    folders = list(importlib.import_module(name).__path__)
    for one in pkgutil.walk_packages(folders, name + "."):
        if ".migrations" in one.name or one.name.endswith(".__main__"):
            continue
        try:
            importlib.import_module(one.name)
        except ModuleNotFoundError as error:
            if error.name.partition(".")[0] != "simulators":
                raise
    compileall.compile_dir(folders[0], quiet=1)
from workers.transport.exchange import system_trust
if not system_trust()[0] or not system_trust()[1]:
    raise SystemExit("the system's certificates are not found")
"""
SYSTEM_FILES = ("etc/os-release", "etc/nsswitch.conf", "etc/ssl/openssl.cnf")
#: The certificates that the system trusts: one by one under their hashes, and as one file.
SYSTEM_FOLDERS = ("etc/ssl/certs", "usr/share/ca-certificates")
PEOPLE = {
    "etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\npushfleet:x:{id}:{id}::/:/sbin/nologin\n",
    "etc/group": "root:x:0:\npushfleet:x:{id}:\n",
}
USER = 10001
#: Where the system's OpenSSL, as Python uses it, looks for them.
OPENSSL = Path(ssl.get_default_verify_paths().openssl_cafile).parent


def main() -> None:
    environment, root = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    python = Path(sys.base_prefix)
    for link, target in (("lib", "usr/lib"), ("lib64", "usr/lib64"), ("bin", "usr/bin")):
        (root / target).mkdir(parents=True)
        (root / link).symlink_to(target)
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = (python / "bin/python3").resolve()
    copied(python / "lib" / name, root, STDLIB_LEFT)
    copied(environment, root, PACKAGE_LEFT)
    put(interpreter, root)
    for path in dict.fromkeys((*links_of(environment / "bin/python"), python / "bin/python3")):
        if path != interpreter and not inside(root, path).exists():
            inside(root, path).symlink_to(interpreter)
    copies = [path for path in root.rglob("*.so*") if path.is_file()]
    libraries = sorted(
        set(linked([interpreter, *(Path("/") / path.relative_to(root) for path in copies)]))
    )
    for library in libraries:
        put(library, root)
    system(root, libraries)
    compiled(root, environment)
    stripped(root)


def inside(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def put(path: Path, root: Path) -> None:
    inside(root, path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, inside(root, path))


def copied(folder: Path, root: Path, left: Iterable[str]) -> None:
    shutil.copytree(
        folder,
        inside(root, folder),
        symlinks=True,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__", *left),
    )


def links_of(path: Path) -> Iterator[Path]:
    """The symbolic links outside the environment on the way to the interpreter."""
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield path


def linked(paths: Iterable[Path]) -> Iterator[Path]:
    """The libraries of the system and of the interpreter, as the loader finds them."""
    for path in paths:
        told = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        for line in told.splitlines():
            words = line.replace("=>", " ").split()
            found = next((word for word in words if word.startswith("/")), None)
            if found and "site-packages" not in found:
                yield Path(found)


def system(root: Path, libraries: Iterable[Path]) -> None:
    """What a scanner asks for, too: which Debian packages the libraries are of."""
    for name in SYSTEM_FILES:
        put(Path("/") / name, root)
    for name in SYSTEM_FOLDERS:
        copied(Path("/") / name, root, ())
    links = {
        "certs": "certs",
        "cert.pem": "certs/ca-certificates.crt",
        "openssl.cnf": "openssl.cnf",
    }
    inside(root, OPENSSL).mkdir(parents=True)
    for name, target in links.items():
        (inside(root, OPENSSL) / name).symlink_to(Path("/etc/ssl") / target)
    for name, text in PEOPLE.items():
        (root / name).write_text(text.format(id=USER))
    if Path("/etc/ld.so.cache").exists():
        put(Path("/etc/ld.so.cache"), root)
    for name, mode, owner in (("tmp", 0o1777, 0), ("var/lib/pushfleet", 0o700, USER)):
        (root / name).mkdir(parents=True)
        (root / name).chmod(mode)
        shutil.chown(root / name, owner, owner)
    status = root / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for package in sorted({one for library in libraries for one in owners(library)}):
        told = subprocess.run(["dpkg", "-s", package], capture_output=True, text=True, check=True)
        (status / package).write_text(told.stdout)
        rights = Path("/usr/share/doc") / package / "copyright"
        if rights.exists():
            put(rights, root)


def owners(library: Path) -> Iterator[str]:
    for path in dict.fromkeys(
        (library, library.resolve(), Path("/usr") / library.relative_to("/"))
    ):
        told = subprocess.run(["dpkg", "-S", path], capture_output=True, text=True, check=False)
        if told.returncode == 0:
            yield told.stdout.split(":")[0]
            return


def compiled(root: Path, environment: Path) -> None:
    """Runs in the new root: proof that it has all that the fleet imports."""
    run: list[str | Path] = ["chroot", root, environment / "bin/python"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([*run, "-c", WARM], check=True, env=own)
    subprocess.run([*run, "-m", "workers", "--version"], check=True, env=own)


def stripped(root: Path) -> None:
    """Debug symbols go, but for libraries that a wheel has rewritten (*.libs): stripping breaks
    some of them.
    """
    if not shutil.which("strip"):
        return
    for path in root.rglob("*.so*"):
        named = path.suffix == ".so" or (".so." in path.name and path.name != "ld.so.cache")
        if named and not path.is_symlink() and not path.parent.name.endswith(".libs"):
            subprocess.run(["strip", "--strip-unneeded", path], check=True)


if __name__ == "__main__":
    main()
