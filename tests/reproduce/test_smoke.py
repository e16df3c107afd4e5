"""Every claim at smoke scale, as a user starts it: `make smoke-claims`."""

import json
import os
import subprocess
import sys

import pytest

from jaxrl.reproduce import catalogue

PATIENCE = 900  # seconds for what takes twenty on a quiet machine, and a minute of compiling Craftax


@pytest.mark.claims
@pytest.mark.parametrize("name", catalogue.names())
def test_a_claim_runs_at_smoke_scale(name, tmp_path):
    root = catalogue.folder().parent
    command = [sys.executable, "-m", "jaxrl", "reproduce", name, "--scale", "smoke", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / f"{name}-smoke"
    found = json.loads((folder / "record.json").read_text())
    assert found["panels"] and found["differences"] and found["planted"] and found["diverged"] == 0
    assert all(row["null_reproduced"] <= 0.05 and row["effect_reproduced"] >= 0.9 for row in found["planted"])
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG") and (folder / "claim.md").stat().st_size > 100
    assert f"experiments/{name.replace('-', '_')}.py" in found["code"] and f"{name}: " in done.stdout
