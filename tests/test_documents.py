"""The documents say what the code says."""

from pathlib import Path

from experiment.document import document

ROOT = Path(__file__).resolve().parents[1]


def test_the_config_page_is_made_from_the_schema_and_the_stages() -> None:
    assert (ROOT / "docs/config.md").read_text() == "\n".join(document()), "run `make docs`"
