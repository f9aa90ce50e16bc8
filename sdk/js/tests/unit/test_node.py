"""What needs no server, by Node's own test runner."""

import subprocess
from pathlib import Path


def test_the_tests_of_node_pass(node: str) -> None:
    files = sorted(str(file) for file in Path(__file__).parent.glob("*.test.js"))
    ran = subprocess.run([node, "--test", *files], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "# pass 0" not in ran.stdout
