"""Settings from outside: the file, the environment over it, arguments over both; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from mainstem import ConfigError, Mainstem
from mainstem.settings import load


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults() -> None:
    settings = load()
    assert (settings.url, settings.publish_deadline, settings.drain) == ("embedded://", 30.0, 10.0)
    assert settings.event_limit == 1 << 20


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mainstem.toml").write_text('url = "redis://file:6379"\ndrain = 3\nevent_limit = 100\n')
    monkeypatch.setenv("MAINSTEM_URL", "redis://env:6379")
    monkeypatch.setenv("MAINSTEM_DRAIN", "4.5")
    settings = load()
    assert (settings.url, settings.drain, settings.event_limit) == ("redis://env:6379", 4.5, 100)


def test_arguments_go_before_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTEM_URL", "redis://env:6379")
    assert Mainstem("memory://").url == "memory://"
    assert Mainstem().url == "redis://env:6379"


async def test_what_is_set_outside_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTEM_URL", "memory://")
    monkeypatch.setenv("MAINSTEM_EVENT_LIMIT", "77")
    async with Mainstem() as app:
        assert app.connection().event_limit == 77
    async with Mainstem(event_limit=88) as app:
        assert app.connection().event_limit == 88


@pytest.mark.parametrize(
    ("name", "value"),
    [("PUBLISH_DEADLINE", "soon"), ("PUBLISH_DEADLINE", "0"), ("DRAIN", "-1"), ("EVENT_LIMIT", "0"),
     ("EVENT_LIMIT", "big"), ("PUBLISH_DEADLINE", "nan")],
)  # fmt: skip
def test_a_wrong_value_names_its_setting(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"MAINSTEM_{name}", value)
    with pytest.raises(ConfigError) as caught:
        load()
    said = str(caught.value)
    assert said.startswith(f"setting '{name.lower()}' is wrong (")
    assert f"fix MAINSTEM_{name} or mainstem.toml" in said
    assert "\n" not in said


def test_a_wrong_value_in_the_file_names_its_setting(tmp_path: Path) -> None:
    (tmp_path / "mainstem.toml").write_text('drain = "never"\n')
    with pytest.raises(ConfigError, match="setting 'drain' is wrong"):
        load()


@pytest.mark.parametrize("content", [b"url = ", b"\xff\xfe", b"[[["])
def test_a_broken_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mainstem.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"mainstem\.toml cannot be read"):
        load()


@pytest.mark.parametrize("option", ["publish_deadline", "drain"])
@pytest.mark.parametrize("value", ["soon", -1, float("inf")])
def test_wrong_arguments(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{option}={value!r} is not a duration"):
        Mainstem("memory://", **{option: value})  # type: ignore[arg-type]
