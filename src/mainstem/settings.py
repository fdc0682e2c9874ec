"""Settings of an app that its code leaves open: `mainstem.toml` < `MAINSTEM_*` environment variables < arguments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from mainstem.errors import ConfigError
from mainstem.names import seconds

FILE = "mainstem.toml"


def _seconds(value: float | str) -> float:
    text = str(value).strip()
    try:
        return seconds(float(text) if _NUMBER.match(text) else text, "it")
    except ConfigError as error:
        raise ValueError(str(error)) from error


_NUMBER = re.compile(r"-?[0-9.]+\Z")
Duration = Annotated[float, BeforeValidator(_seconds)]
"""Seconds, or text such as "30s"."""


class Settings(BaseSettings):
    """What may be set from outside."""

    model_config = SettingsConfigDict(env_prefix="MAINSTEM_", extra="ignore", frozen=True)

    url: str = "embedded://"
    publish_deadline: Duration = Field(default=30.0, gt=0)
    drain: Duration = 10.0
    event_limit: int = Field(default=1 << 20, ge=1)  # bytes

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=Path(FILE))


def load() -> Settings:
    """Read the settings, or raise `ConfigError` naming the one that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"setting {name!r} is wrong ({first['msg']}): fix MAINSTEM_{name.upper()} or {FILE}."
        ) from error
    except ValueError as error:
        raise ConfigError(f"{FILE} cannot be read: {error}.") from error
