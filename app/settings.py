"""All settings of PRISM: typed, with the unit in the name. `app.config` reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.database_url import database_url
from app.core.execution import unknown_provider
from app.core.model import Limits
from app.core.ssh_address import SshAddress, ssh_address

CHECKOUT = Path(__file__).resolve().parent.parent


def default_home() -> Path:
    """The checkout PRISM runs from; for an installed package, the user's data folder."""  # in docs/settings.md, too
    if (CHECKOUT / "pyproject.toml").is_file():
        return CHECKOUT
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "prism"


class Places(BaseSettings):
    """The settings that lead to the record of the server that runs on this machine."""

    model_config = SettingsConfigDict(env_prefix="PRISM_", populate_by_name=True, extra="ignore", frozen=True)

    home: Path = Field(default_factory=default_home, description="Folder that relative paths start from.")
    run_root: Path = Field(
        Path("model_store/run"), description="Folder for working folders of replicas, and the server's record and log."
    )

    @field_validator("*")
    @classmethod
    def _tilde_is_the_users_folder(cls, value: object) -> object:
        return Path(os.path.expanduser(value)) if isinstance(value, Path) else value

    @property
    def run_folder(self) -> Path:
        return self.home / self.run_root


class Settings(Places):
    """The settings. Relative paths count from `home`.

    Every field is an environment variable, its alias or PRISM_ + its name, and a key of config.yaml.
    """

    model_upload_root: Path = Field(
        Path("model_store/uploads"),
        alias="MODEL_UPLOAD_ROOT",
        description="Where artifacts and their records are stored, one folder for each model_id.",
    )
    model_container_registry_path: Path = Field(
        Path("app/registry/containers.json"),
        alias="MODEL_CONTAINER_REGISTRY_PATH",
        description="The JSON file that records what runs on this host.",
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        alias="DATABASE_URL",
        description="PostgreSQL database for the catalog, postgresql+asyncpg://user:password@host:5432/database; unset: a SQLite file, see catalog.md.",
    )
    environment_root: Path = Field(
        Path("model_store/environments"),
        description="Where the process target keeps the packages of each lock hash.",
    )
    models_dir: str = Field(
        "", description="Folder that holds a folder for each model, served and watched; see models-folder.md."
    )
    models_dir_interval_seconds: float = Field(1, gt=0, description="Time between two scans of the models folder.")
    host: str = Field("127.0.0.1", description="Address the server listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the server listens on; 0 takes any free one.")
    grpc_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port for the Open Inference Protocol over gRPC, on the same address; 0 disables it.",
    )
    reload: bool = Field(
        False, description="For development: restart the server when its code changes; models keep running."
    )
    target: str = Field(
        "auto",
        description="Where models run: docker or process; auto takes docker if an engine answers, otherwise process.",
    )
    base_image: str = Field(
        "python:{version}-slim", description="Base image of environments; {version} is the Python minor."
    )
    single_active_model: bool = Field(
        True,
        description="A version that takes traffic also replaces models of other names, except those kept by "
        "`prism push --keep`; versions registered beside it count with it. false keeps all side by side.",
    )
    enable_health_monitor: bool = Field(True, description="Watch replicas and restart those that are lost.")
    health_monitor_interval_seconds: float = Field(10, gt=0, description="Time between two monitor cycles.")
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Comma-separated API keys; without any key, the server is open to this machine.",
    )
    admin_keys: SecretStr = Field(
        SecretStr(""),
        description="Comma-separated keys that may upload and change models; unset: the API keys. Required off loopback.",
    )
    allowed_hosts: str = Field(
        "", description="Comma-separated host names, besides loopback, by which browsers may reach the server."
    )
    rate_limit_requests: int = Field(
        120,
        ge=0,
        description="Requests that a caller may send in one window; 0 for no limit. Unless it is set, it is for callers from elsewhere and for keys alone; see security.md.",
    )
    rate_limit_window_seconds: float = Field(60, gt=0, description="Length of the rate limit's sliding window.")
    batch_window_ms: float = Field(
        50, ge=0, description="Upper bound on waiting for a fuller batch; an idle replica is never kept waiting."
    )
    batched_wait_ms: float = Field(
        10, ge=0, description="Longest time that a request to /predict_batched waits for others to join its batch."
    )
    max_batch_size: int = Field(64, ge=1, le=65535, description="Maximum number of requests in one batch.")
    queue_length: int = Field(
        1024, ge=1, description="Maximum number of requests that wait for one model; further ones get 503."
    )
    max_streams: int = Field(32, ge=1, description="Maximum number of open streams of one model; further ones get 503.")
    predict_timeout_seconds: float = Field(
        30, gt=0, description="Longest time that a prediction, or an item of a stream, may take, including the wait."
    )
    heartbeat_timeout_seconds: float = Field(
        3, gt=0, description="A replica that is silent for longer counts as hung: its requests fail and it is replaced."
    )
    max_upload_mb: int = Field(4096, ge=1, description="Largest model file, in MiB.")
    inspect_memory_mb: int = Field(
        1024, ge=128, description="Memory limit of a process that reads an artifact, in MiB."
    )
    inspect_timeout_seconds: float = Field(
        600,
        gt=0,
        description="Longest time that reading one artifact may take once it has started; two are read at a time.",
    )
    max_body_mb: int = Field(16, ge=1, description="Largest prediction request, in MiB.")
    max_answer_mb: int = Field(
        64,
        ge=1,
        le=256,
        description="Largest answer of a model, or item of a stream, in MiB; the answers of one batch may have 256 MiB in total.",
    )
    receive_timeout_seconds: float = Field(
        30, gt=0, description="Longest time that a request may take to arrive, plus one second for each KiB received."
    )
    keep_alive_seconds: int = Field(75, ge=1, description="Minimum time that an idle connection is kept open.")
    resolution_max_age_hours: float = Field(
        24,
        ge=0,
        description="How long the versions resolved for the same requirements are reused; 0 asks the index every time.",
    )
    build_timeout_seconds: float = Field(1800, gt=0, description="Longest time that building an environment may take.")
    start_timeout_seconds: float = Field(
        120, gt=0, description="Longest time that a replica may take to load its model."
    )
    drain_timeout_seconds: float = Field(
        30, ge=0, description="Longest time that a replaced replica has to finish its requests."
    )
    model_memory_mb: int = Field(2048, ge=64, description="Memory limit of a replica, in MiB.")
    model_cpus: float = Field(1.0, gt=0, description="CPU limit of a replica, in cores.")
    model_threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Number of threads that a model's libraries compute on; 0 for as many as it has cores.",
    )
    execution_providers: str = Field(
        "",
        description="Comma-separated execution providers of onnxruntime, best first, for ONNX models without their own; see onnx.md.",
    )
    model_pids: int = Field(256, ge=8, description="Maximum number of processes and threads of a replica.")
    accelerate: Literal["auto", "off"] = Field(
        "auto",
        description="Convert live models to ONNX in the background and serve that if it is proven equal; off keeps and restores the original variant.",
    )
    enable_tunnel: bool = Field(
        False, alias="ENABLE_TUNNEL", description="Share every live model from the server's start on; see sharing.md."
    )
    tunnel: str = Field(
        "ngrok",
        description="How models are shared: ngrok, or ssh://user@host:port?remote_port=N to forward a port from a host of yours.",
    )
    ngrok_authtoken: SecretStr = Field(
        SecretStr(""), alias="NGROK_AUTHTOKEN", description="Token of your ngrok account; never logged or shown."
    )
    tunnel_start_timeout_seconds: float = Field(
        30,
        gt=0,
        alias="PRISM_TUNNEL_START_TIMEOUT",
        description="Longest time that a tunnel may take to open, in seconds.",
    )
    tunnel_ssh_identity: str = Field(
        "", description="Private key file for an SSH tunnel; unset: the keys of ssh's own configuration and its agent."
    )
    tunnel_ssh_known_hosts: str = Field(
        "", description="File with the host keys that an SSH tunnel trusts; unset: ssh's own known_hosts."
    )
    debug_mode: bool = Field(False, alias="DEBUG_MODE", description="Log the timings of every prediction.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest severity that is logged."
    )

    @field_validator("base_image")
    @classmethod
    def _base_image_has_no_unknown_field(cls, value: str) -> str:
        try:
            value.format(version="3.11")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("may contain {version} and no other field") from error
        return value

    @field_validator("tunnel")
    @classmethod
    def _tunnel_has_a_known_form(cls, value: str) -> str:
        if value != "ngrok":
            ssh_address(value)
        return value

    @field_validator("execution_providers")
    @classmethod
    def _execution_providers_are_known(cls, value: str) -> str:
        if unknown := unknown_provider(separate(value)):
            raise ValueError(f"{unknown[0][:100]} is no execution provider. {unknown[1]}".rstrip("."))
        return value

    @field_validator("database_url")
    @classmethod
    def _database_is_postgresql(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        return SecretStr(database_url(text)) if text else value

    @field_validator("api_keys", "admin_keys")
    @classmethod
    def _keys_are_usable(cls, value: SecretStr) -> SecretStr:
        keys = value.get_secret_value()
        if keys and not all(key.strip() for key in keys.split(",")):
            raise ValueError("has an empty key between its commas")
        return value

    @property
    def limits_owner(self) -> bool:
        """Whether the rate limit is for the owner on this machine and for admins on pages, too: where it was set."""
        return "rate_limit_requests" in self.model_fields_set

    @property
    def upload_root(self) -> Path:
        return self.home / self.model_upload_root

    @property
    def registry_path(self) -> Path:
        return self.home / self.model_container_registry_path

    @property
    def catalog_place(self) -> Path | str:
        """The file of SQLite, or the URL of PostgreSQL, with its password."""
        return self.database_url.get_secret_value() or self.registry_path.with_name("catalog.db").absolute()

    @property
    def environments(self) -> Path:
        return self.home / self.environment_root

    @property
    def models_folder(self) -> Path | None:
        return self._file(self.models_dir)

    @property
    def ssh_tunnel(self) -> SshAddress | None:
        """The address of the SSH tunnel; None where ngrok is used."""
        return None if self.tunnel == "ngrok" else ssh_address(self.tunnel)

    @property
    def tunnel_identity(self) -> Path | None:
        return self._file(self.tunnel_ssh_identity)

    @property
    def tunnel_known_hosts(self) -> Path | None:
        return self._file(self.tunnel_ssh_known_hosts)

    def _file(self, text: str) -> Path | None:
        """Resolve a path relative to `home`, with `~` for the user's folder; None where the setting is unset."""
        return self.home / os.path.expanduser(text) if text else None

    @property
    def keys(self) -> tuple[str, ...]:
        return separate(self.api_keys.get_secret_value())

    @property
    def keys_of_admins(self) -> tuple[str, ...]:
        return separate(self.admin_keys.get_secret_value())

    @property
    def limits(self) -> Limits:
        return Limits(
            memory_mb=self.model_memory_mb,
            cpus=self.model_cpus,
            pids=self.model_pids,
            threads=self.model_threads,
            execution_providers=separate(self.execution_providers),
        )


def separate(keys: str) -> tuple[str, ...]:
    return tuple(key.strip() for key in keys.split(",") if key.strip())


def variable(field: str) -> str:
    """Return the environment variable that sets `field`."""
    return Settings.model_fields[field].alias or f"PRISM_{field.upper()}"


def field_of(name: str) -> str:
    """Return the field that a name means: its own, or its environment variable; "" for no field."""
    return (
        name if name in Settings.model_fields else next((f for f in Settings.model_fields if variable(f) == name), "")
    )


def is_secret(field: str) -> bool:
    return Settings.model_fields[field].annotation is SecretStr
