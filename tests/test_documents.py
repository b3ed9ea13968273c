"""The documents and profiles say what the code says."""

import re
from pathlib import Path

import yaml
from experiment.document import document

ROOT = Path(__file__).resolve().parents[1]


def test_the_config_page_is_made_from_the_schema_and_the_stages() -> None:
    assert (ROOT / "docs/config.md").read_text() == "\n".join(document()), "run `make docs`"


def test_the_slurm_profile_has_a_line_for_every_rule_that_asks_for_cores_or_a_gpu() -> None:
    """A rule's cores feed its GPU; their default, one, is for a single machine without one."""
    rules = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    bodies = re.split(r"^rule (\w+):$", rules, flags=re.MULTILINE)[1:]
    asking = {
        name for name, body in zip(bodies[::2], bodies[1::2], strict=True) if re.search(r"cpus_per_task|\bgpu=", body)
    }
    asking |= {name for of, name in re.findall(r"^use rule (\w+) as (\w+) with:$", rules, re.MULTILINE) if of in asking}
    given = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())["set-resources"]
    assert asking == {name for name, resources in given.items() if resources["cpus_per_task"] > 1}
    assert {"linear_probe", "embed_shard"} <= asking


def test_memory_and_time_grow_with_each_attempt() -> None:
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        asked = re.findall(r"^        (?:mem_mb|runtime)=(.*),$", path.read_text(), flags=re.MULTILINE)
        assert [amount for amount in asked if not amount.startswith("scaled(")] == [], path
