"""The documentation says the truth: its code runs, its commands exist, its links resolve."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(p for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    return [code for language, code in FENCE.findall(page.read_text()) if language in languages]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_blocks_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "blocks.py"
    script.write_text("\n\n".join(blocks(page, "python")))
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "launch")])},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def commands() -> list[tuple[Path, str]]:
    found = []
    for page in PAGES:
        for block in blocks(page, "sh", "bash", ""):
            for line in block.splitlines():
                line = line.split("#")[0].strip()
                if re.match(r"(make|pip|distrain|python|mpiexec) ", line):
                    found.append((page, line))
    return found


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda x: x if isinstance(x, str) else x.name)
def test_commands_exist(page: Path, line: str) -> None:
    words = line.split()
    if words[0] == "make":
        targets = re.findall(r"^([\w%-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        target = words[1]
        assert target in targets or re.sub(r"\d+", "%", target) in targets
    for extra in re.findall(r"distrain\[([\w,]+)\]", line):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert set(extra.split(",")) <= set(project["optional-dependencies"])
    for script in re.findall(r"examples/\w+\.py", line):
        assert (ROOT / script).exists()
    if words[0] == "distrain":
        done = subprocess.run(
            [sys.executable, "-m", "distrain_launch", words[1], "--help"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "launch")])},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        for option in re.findall(r" (--?[a-z]\S*)", line.split(".py")[0]):
            assert option.split("=")[0] in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_resolve(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_architecture_names_files_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for path in re.findall(r"`((?:\w+/)+\w+\.py)`", text):
        assert (ROOT / path).exists() or (ROOT / "distrain" / path).exists(), path
    floors = text[text.index("## Floors") : text.index("## The life")]
    for package in sorted(p.name for p in (ROOT / "distrain").iterdir() if (p / "__init__.py").exists()):
        assert f"{package}/" in floors, f"{package} has no floor in ARCHITECTURE.md"
    for module in sorted(p.stem for p in (ROOT / "distrain").glob("*.py")):
        assert re.search(rf"\b{module}\b", floors), f"{module} has no floor in ARCHITECTURE.md"
