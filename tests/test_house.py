"""Rules of the house that no linter knows. import-linter holds its floors."""

import ast

from conftest import ROOT

FILES = [
    path
    for folder in ("wmgm_jax", "experiments", "benchmarks", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
OURS = ("wmgm_jax", "experiments", "benchmarks", "tests", "conftest")


def test_no_file_imports_private_names_of_another():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, (path, private)


def test_networks_and_samplers_know_nothing_of_one_another():
    for folder, others in (("networks", ("diffusion", "losses")), ("diffusion", ("networks",))):
        for path in (ROOT / "wmgm_jax" / folder).glob("*.py"):
            for other in others:
                assert f"wmgm_jax.{other}" not in path.read_text(), path


def test_nothing_below_the_systems_reads_a_whole_config():
    for folder in ("losses", "networks", "diffusion", "data", "core"):
        for path in (ROOT / "wmgm_jax" / folder).rglob("*.py"):
            assert "ConfigDict" not in path.read_text(), path
