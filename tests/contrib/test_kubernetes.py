"""The manifests for Kubernetes: their schemas, and that a Sentinel accepts the files and serves the probes in them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import FakeView
from tests.test_tidy import ROOT
from txsentinel.extensions.http.health import HealthRoutes
from txsentinel.extensions.kubernetes.settings import DEFAULT_PORT_NAME, read_settings
from txsentinel.model.extension_settings import ExtensionSetting

PATH = os.path.join(ROOT, "contrib", "kubernetes", "sentinels.yaml")
PROGRAM = "import sys; from txsentinel.cli.main import main; sys.exit(main())"
VERSIONS = ("1.30", "1.37")


def documents() -> Iterator[dict[str, Any]]:
    """Return all objects."""
    with open(PATH, encoding="utf-8") as stream:
        yield from yaml.safe_load_all(stream)


def one(kind: str, name: str = "txsentinel") -> dict[str, Any]:
    """Return one object."""
    return next(each for each in documents() if each["kind"] == kind and each["metadata"]["name"] == name)


class ManifestTests(SynchronousTestCase):
    """The objects."""

    def test_schemas(self) -> None:
        """Each object fits the strict schema of its kind, which finds misspelled keys."""
        for document in documents():
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)
        damaged = one("StatefulSet")
        damaged["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
        self.assertRaises(kubernetes_validate.ValidationError, kubernetes_validate.validate, damaged, VERSIONS[1], True)

    def test_probes(self) -> None:
        """The probes are health checks that the Sentinel has, at the port on which it listens."""
        (container,) = one("StatefulSet")["spec"]["template"]["spec"]["containers"]
        known = {route.pattern for route in HealthRoutes(FakeView(), lambda: 0.0).routes()}
        for probe in ("livenessProbe", "readinessProbe"):
            self.assertIn(container[probe]["httpGet"]["path"], known)
            self.assertEqual(container[probe]["httpGet"]["port"], "http")
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        data = one("ConfigMap")["data"]
        self.assertIn(f"tcp:{ports['http']}:", data["extensions.conf"])
        self.assertIn(f"port {ports['sentinel']}\n", data["sentinel.conf"])

    def test_names(self) -> None:
        """The Service of the master has no selector, and the names that the extension writes."""
        line = next(each for each in one("ConfigMap")["data"]["extensions.conf"].splitlines() if " service " in each)
        service = line.split()[-1]
        spec = one("Service", service)["spec"]
        self.assertNotIn("selector", spec)
        self.assertEqual(spec["ports"][0]["name"], DEFAULT_PORT_NAME)
        names = [name for rule in one("Role")["rules"] for name in rule.get("resourceNames", ())]
        self.assertEqual(names, [f"{service}-txsentinel"])

    def test_the_files_are_accepted(self) -> None:
        """``txsentinel check`` accepts both files, with the files and variables of a Pod."""
        data = one("ConfigMap")["data"]
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            for file, text in data.items():
                (directory / file).write_text(
                    text.replace("/var/lib/txsentinel", name).replace("redis-0.redis", "127.0.0.1")
                )
            for file in ("token", "namespace"):
                (directory / file).write_text("x")
            server = "kubernetes server https://10.96.0.1\nkubernetes namespace redis\n"
            with open(directory / "extensions.conf", "a") as stream:
                stream.write(f"{server}kubernetes token-file {directory / 'token'}\n")
            command = [
                sys.executable,
                "-c",
                PROGRAM,
                "check",
                "--extensions",
                str(directory / "extensions.conf"),
            ]
            done = subprocess.run(
                [*command, str(directory / "sentinel.conf")], capture_output=True, text=True, timeout=60, cwd=ROOT
            )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("extension kubernetes", done.stdout)

    def test_settings_of_a_pod(self) -> None:
        """The line of the extension is enough in a Pod, but for the certificate of the cluster."""
        lines = one("ConfigMap")["data"]["extensions.conf"].splitlines()
        words = [line.split()[1:] for line in lines if line.startswith("kubernetes ")]
        settings = [ExtensionSetting(name, tuple(values)) for name, *values in words]
        environment = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
        error = self.assertRaises(ValueError, read_settings, "", settings, environment, "/nowhere")
        self.assertIn("/nowhere/namespace", str(error))
