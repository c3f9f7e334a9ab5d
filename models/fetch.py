#!/usr/bin/env python3
"""Fetch the files that Guiji needs and does not commit, as manifest.toml names them.

    python3 models/fetch.py [CACHE]      CACHE is models/.cache unless given
    python3 models/fetch.py --compared   also the models that ours are compared with

Each file is unpacked from a package of PyPI, downloaded by pip, and has to have the size and the
SHA-256 that the manifest pins; so do the committed models. With everything in place this does
nothing, needs no network, and takes a fraction of a second. Nothing is installed.

Exit codes: 0 all in place, 1 something is wrong (the message says what, and what to do).
Needs Python 3.11 or newer, its standard library, and pip.
"""

import argparse
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

try:
    import tomllib
except ModuleNotFoundError:
    sys.exit(f"error: Python 3.11 or newer is needed, this is {platform.python_version()}\n"
             "  fix: run this script with a newer python3")

HERE = pathlib.Path(__file__).resolve().parent
SECONDS_PER_DOWNLOAD_MAX = 600


class Failure(Exception):
    """Something the user has to know: what is wrong, details, and what to do about it."""

    def __init__(self, what, *details, fix):
        super().__init__("\n  ".join([f"error: {what}", *details, f"fix: {fix}"]))


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_digest(path, expected, name, fix):
    found = sha256(path)
    if found != expected:
        raise Failure(f"{name} has the wrong digest", f"expected {expected}", f"found    {found}", fix=fix)


def machine():
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def needed_files(manifest, arch, compared):
    """Two lists of file tables, committed and fetched: what this machine needs."""
    files = [file for model in manifest.get("model", [])
             for file in (model, model.get("charset")) if file is not None]
    runtimes = manifest.get("runtime", [])
    files += [runtime for runtime in runtimes if runtime["arch"] == arch]
    if runtimes and not any(runtime["arch"] == arch for runtime in runtimes):
        known = ", ".join(sorted(runtime["arch"] for runtime in runtimes))
        raise Failure(f"no ONNX Runtime is known for the processor {arch}", f"known: {known}",
                      fix="use one of those machines, or add a [[runtime]] table to models/manifest.toml")
    files += manifest.get("picture", [])
    fetched = ["fetched", "compared"] if compared else ["fetched"]
    return ([file for file in files if file["location"] == "committed"],
            [file for file in files if file["location"] in fetched])


def find_pip():
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        if path := shutil.which(name):
            return [path]
    raise Failure("pip is not installed", fix="apt-get install python3-pip")


def pip_attempts(package):
    """Options to try one after another until one brings the package file."""
    if package["kind"] == "wheel":
        tags = []
        for key in ("python_version", "implementation", "abi", "platform"):
            if key in package:
                tags += [f"--{key.replace('_', '-')}", package[key]]
        return [["--only-binary", ":all:", *tags]]
    # For a source distribution pip asks its build backend for the name and version; hence the
    # backend has to be there, fetched by pip itself or else from the system.
    source = ["--no-binary", package["name"]]
    return [source, [*source, "--no-build-isolation"]]


def download(package, folder):
    """The package file below `folder`. pip compares the digest before it opens the file."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{package['name']}=={package['version']} --hash=sha256:{package['sha256']}\n")
    pip = find_pip()
    said = ""
    for options in pip_attempts(package):
        try:
            done = subprocess.run(
                [*pip, "download", "--disable-pip-version-check", "--no-input", "--quiet", "--no-deps",
                 "--require-hashes", "--dest", folder, *options, "-r", requirement],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                timeout=SECONDS_PER_DOWNLOAD_MAX)
        except subprocess.TimeoutExpired:
            said = f"no end after {SECONDS_PER_DOWNLOAD_MAX} s"
            continue
        if done.returncode == 0:
            break
        said = done.stdout
        if "DO NOT MATCH THE HASHES" in said:
            found = re.search(r"Got\s+([0-9a-f]{64})", said)
            raise Failure(f"{package['file']} has the wrong digest", f"expected {package['sha256']}",
                          f"found    {found[1] if found else 'unknown'}",
                          fix="do not use it: the package has changed since it was pinned, or something "
                              "on the way changed it; try another network, then open an issue")
    else:
        raise Failure(f"pip could not download {package['name']} {package['version']}",
                      *said.strip().splitlines()[-4:],
                      fix="check the network and pip's settings and run again, or put the file "
                          f"{package['file']} into a folder and run with --packages FOLDER")
    return folder / package["file"]


def obtain(package, packages, folder):
    """The package file, from the folder `packages` if the user gave one, else from pip."""
    if packages is None:
        print(f"fetching {package['name']} {package['version']} ({package['bytes'] / 1e6:.1f} MB) ...", flush=True)
        path = download(package, folder)
        fix = "run again; if it stays wrong, do not use it and open an issue"
    else:
        path = packages / package["file"]
        fix = f"replace {path} by the file that the registry serves"
    if not path.is_file():
        raise Failure(f"{package['file']} is not in {path.parent}",
                      fix="put it there, or run without --packages")
    require_digest(path, package["sha256"], package["file"], fix)
    return path


def read_member(path, member):
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as archive:
                return archive.read(member)
        with tarfile.open(path) as archive:
            return archive.extractfile(member).read()
    except KeyError:
        raise Failure(f"{path.name} does not contain {member}",
                      fix="correct `member` in models/manifest.toml") from None


def unpack(file, package_path, target):
    """Write the file's bytes in one step, so that a stop in between leaves nothing half."""
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(read_member(package_path, file["member"]))
        require_digest(partial, file["sha256"], f"{file['member']} in {package_path.name}",
                       "correct models/manifest.toml: the package is the pinned one, so the file's "
                       "own digest there must be mistaken")
        os.chmod(partial, 0o644)
        os.replace(partial, target)
    finally:
        pathlib.Path(partial).unlink(missing_ok=True)


def run(manifest_path, cache, packages, arch, compared):
    try:
        manifest = tomllib.loads(manifest_path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Failure(f"{manifest_path} cannot be read", str(error), fix="restore it from git") from None
    committed, fetched = needed_files(manifest, arch, compared)

    for file in committed:
        path = manifest_path.parent / file["file"]
        if not path.is_file():
            raise Failure(f"{path} is missing", fix="restore it from git")
        require_digest(path, file["sha256"], path,
                       "restore it from git, or write the new digest into models/manifest.toml if you made it anew")

    missing = {}
    for file in fetched:
        path = cache / file["file"]
        if path.is_file():
            require_digest(path, file["sha256"], path, f"delete it and run again: rm '{path}'")
        else:
            missing.setdefault(file["package"], []).append(file)

    by_id = {package["id"]: package for package in manifest.get("package", [])}
    cache.mkdir(parents=True, exist_ok=True)
    for package_id, files in missing.items():
        with tempfile.TemporaryDirectory(prefix="guiji-fetch-") as folder:
            package_path = obtain(by_id[package_id], packages, pathlib.Path(folder))
            for file in files:
                unpack(file, package_path, cache / file["file"])
    count = sum(len(files) for files in missing.values())
    print(f"models: {count} fetched, {len(fetched) - count + len(committed)} already in place")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", nargs="?", type=pathlib.Path, default=HERE / ".cache",
                        help="folder to unpack into (models/.cache)")
    parser.add_argument("--manifest", type=pathlib.Path, default=HERE / "manifest.toml")
    parser.add_argument("--packages", type=pathlib.Path,
                        help="take the package files from this folder instead of asking pip")
    parser.add_argument("--arch", default=machine(), help="processor that ONNX Runtime is for (this machine's)")
    parser.add_argument("--compared", action="store_true", help="also the models that ours are compared with")
    arguments = parser.parse_args()
    try:
        run(arguments.manifest, arguments.cache, arguments.packages, arguments.arch, arguments.compared)
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}\n  fix: check the folder's permissions and the free space", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
