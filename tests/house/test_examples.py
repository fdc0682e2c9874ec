"""Every example that the README, the pages under docs/ and the folder examples/ show runs as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import examples

PAGES = examples.in_pages()
PROGRAMS = examples.in_folder()


def test_the_readme_shows_an_example() -> None:
    assert [example for example in PAGES if example.name.startswith("README.md")]


@pytest.mark.parametrize("example", PAGES, ids=lambda example: example.name)
def test_an_example_of_a_page_runs(example: examples.Example, project: Path) -> None:
    examples.run(example, project)


@pytest.mark.parametrize("example", PROGRAMS, ids=lambda example: example.name)
def test_a_program_of_examples_runs(example: examples.Example, project: Path) -> None:
    examples.run(example, project)


# ------------------------------------------------------------------------------------------------ the runner itself
PAGE = """
# Title
```python
a = 1
```
<!-- continues -->
```python
print(a + 1)
```
```sh
make demo
```
<!-- not run: it needs a cluster -->
```python
nonsense(
```
1. in a list
   ```python
   import asyncio
   await asyncio.sleep(0)
   print("awaited")
   ```
"""


def test_blocks_are_found_joined_and_left_out() -> None:
    found = list(examples.in_page(PAGE, "page.md"))
    assert [example.name for example in found] == ["page.md-1", "page.md-2", "page.md-4"]
    assert found[1].code == "a = 1\n\nprint(a + 1)"


def test_a_block_runs_on_what_stands_above_it_and_may_await(project: Path) -> None:
    _, joined, awaiting = examples.in_page(PAGE, "page.md")
    assert examples.run(joined, project) == "2\n"
    assert examples.run(awaiting, project) == "awaited\n"


def test_an_example_that_fails_fails_its_test(project: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="ended with 1"):
        examples.run(examples.Example("wrong", "raise SystemExit(1)"), project)


def test_an_app_is_run_until_sigterm_and_must_end_well(project: Path) -> None:
    program = """
import signal
class app:
    def run():
        signal.signal(signal.SIGTERM, lambda *_: exit({code}))
        while True: signal.pause()
app.run()
"""
    examples.run(examples.Example("drains", program.replace("{code}", "0")), project)
    with pytest.raises(pytest.fail.Exception, match="ended with 3"):
        examples.run(examples.Example("does not", program.replace("{code}", "3")), project)
