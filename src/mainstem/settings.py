"""Settings of an app that its code leaves open: `mainstem.toml` < `MAINSTEM_*` environment variables < arguments."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from mainstem.errors import ConfigError

FILE = "mainstem.toml"


class Settings(BaseSettings):
    """What may be set from outside."""

    model_config = SettingsConfigDict(env_prefix="MAINSTEM_", extra="ignore", frozen=True)

    url: str = "embedded://"
    publish_deadline: float = Field(default=30.0, gt=0)  # seconds
    drain: float = Field(default=10.0, ge=0)  # seconds
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
