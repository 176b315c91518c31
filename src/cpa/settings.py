"""One frozen value with everything that can be set; the environment is read once, here.

Order, strongest first: arguments, environment (`CPA_*`, and the usual names given as aliases), `.env` in the
working folder, `cpa.yaml` in the workspace (read by `cpa.config`), the defaults below.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _listed(value: Any) -> Any:
    """A list as people write it into an environment: `a, b`, or as JSON: `["a", "b"]`."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return tuple(json.loads(value))
        except ValueError as error:
            raise ValueError(f"this is no JSON list: {error}; write a, b") from None
    return tuple(part.strip() for part in value.split(",") if part.strip())


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_listed)]


class Settings(BaseSettings):
    """Every setting, its unit and its default."""

    model_config = SettingsConfigDict(
        env_prefix="CPA_", env_file=".env", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    data: Path = Field(default=Path("cpa-data"), description="Folder of the store, artifacts and keys.")
    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(default=8700, ge=0, le=65535, description="Port of the API; 0 picks a free one.")
    database_url: str = Field(
        default="",
        validation_alias=AliasChoices("CPA_DATABASE_URL", "DATABASE_URL", "database_url"),
        description="SQLAlchemy URL of the store; empty means `<data>/cpa.db`.",
    )
    engine: Literal["local", "temporal"] = Field(
        default="local",
        description="What runs the jobs: this process on its store, or a Temporal server (extra `temporal`).",
    )
    temporal_address: str = Field(
        default="127.0.0.1:7233", description="host:port of the Temporal server, with `engine=temporal`."
    )
    temporal_namespace: str = Field(default="default", description="Namespace of our jobs on that server.")
    temporal_queue: str = Field(
        default="cpa",
        min_length=1,
        description="Task queue of our workers on that server: one for each store.",
    )
    temporal_build: str = Field(
        default="",
        max_length=100,
        pattern=r"^[A-Za-z0-9._+-]*$",
        description="Name of this version of the workers there; empty is that of the package, `off` is none.",
    )
    temporal_tls: bool | None = Field(
        default=None,
        description="TLS to that server; empty is on with any other of these settings, or an API key.",
    )
    temporal_tls_ca: Path | None = Field(
        default=None,
        description="PEM file of the authorities that sign its certificate; empty trusts those of this machine.",
    )
    temporal_tls_cert: Path | None = Field(
        default=None, description="PEM file of our certificate, for a server that asks for one."
    )
    temporal_tls_key: str = Field(
        default="temporal_tls_key",
        min_length=1,
        description="Name of the secret with its private key (PEM).",
    )
    temporal_tls_server_name: str = Field(
        default="", description="Name in the server's certificate, where it is not that of the address."
    )
    temporal_api_key: str = Field(
        default="", description="Name of the secret with the API key that the server asks for."
    )
    temporal_payload_key: str = Field(
        default="",
        description="Id of the key that encrypts what the server keeps: the secret `temporal_payload_<id>`, "
        "32 bytes in base64. Empty encrypts nothing; older keys are found by their ids.",
    )
    temporal_payload_plain: bool = Field(
        default=False,
        description="Whether values that are not encrypted are read although there is a key: for jobs that began "
        "before there was one.",
    )
    redis_url: str = Field(
        default="",
        validation_alias=AliasChoices("CPA_REDIS_URL", "REDIS_URL", "redis_url"),
        description="Hints between processes; read, and not used by this version.",
    )
    openai_api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("CPA_OPENAI_API_KEY", "OPENAI_API_KEY", "openai_api_key"),
        description="Key of a model provider; read, and not used by this version: no model is asked.",
    )
    api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("CPA_API_KEY", "API_KEY", "api_key"),
        description="On the server: a fixed admin key instead of a generated one. In the CLI: the key sent.",
    )
    url: str = Field(default="http://127.0.0.1:8700", description="Where the CLI finds the server.")
    workspace: Path | None = Field(
        default=None, description="Folder with cpa.yaml and intents.yaml, as `cpa init` writes it."
    )
    cors_origins: Texts = Field(default=(), description="Web origins allowed to call the API.")
    hosts: Texts = Field(
        default=(),
        description="Names under which the API may be called; empty is any, on a loopback address those of this "
        "machine.",
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")
    max_running: int = Field(
        default=1000,
        ge=1,
        description="Jobs stepped at the same time by one process, on the local engine; on Temporal it is refused.",
    )
    max_parallel: int = Field(default=100, ge=1, description="Tasks of one job at the same time.")
    approve_own: bool = Field(
        default=False, description="Whether who asked for a job may also allow its tasks."
    )
    heartbeat_seconds: float = Field(
        default=5.0,
        ge=0.1,
        le=300,
        description="Seconds between the beats of an agent; three missed ones, and its work goes to others.",
    )
    signed_messages: Literal["off", "optional", "required"] = Field(
        default="optional",
        description="Whether agents sign their messages: none, those with a registered public key, or all.",
    )
    builtin_agent: bool = Field(
        default=True,
        description="The server does browser, mail, HTTP and file tasks itself; without, agents do them.",
    )
    max_browsers: int = Field(default=4, ge=1, description="Browser contexts at the same time.")
    max_artifact_bytes: int = Field(
        default=256 * 1024 * 1024, ge=1, description="Largest artifact, in bytes."
    )
    max_tenant_bytes: int = Field(
        default=20 * 1024**3, ge=1, description="Most bytes of artifacts that are kept for one tenant."
    )
    max_agent_bytes: int = Field(
        default=4 * 1024**3,
        ge=1,
        description="Most bytes of artifacts that one agent may send in 24 hours; as many of messages.",
    )
    min_upload_rate: int = Field(
        default=16 * 1024,
        ge=1,
        description="Bytes a second at which an artifact must at least arrive, seen over its whole length.",
    )
    files: Paths = Field(default=(), description="Folders the file executor may touch.")
    allow_private: Texts = Field(
        default=(),
        description="Private hosts (`host` or `host:port`) that browser and HTTP executor may reach.",
    )
    smtp_url: str = Field(default="", description="smtp[s]://user@host:port of the sending account.")
    imap_url: str = Field(default="", description="imap[s]://user@host:port of the account to read.")
    mail_from: str = Field(default="", description="Sender address of outgoing mail.")
    mail_proof: Literal["sender", "recipient", "none"] = Field(
        default="sender",
        description="Where sent mail is proved: a Bcc to the sending account, the recipient's box, or nowhere.",
    )
    mail_settle: float = Field(
        default=60.0, ge=0, description="Seconds after which a mail that is not there counts as not sent."
    )
    mail_proof_folder: str = Field(
        default="INBOX", description="Folder in which the mail that proves a sending is looked for."
    )
    browser_sandbox: bool | None = Field(
        default=None, description="Chromium's sandbox; empty is on, except for root, where it cannot work."
    )
    browser: str = Field(default="", description="Path of a Chromium; empty means the first one found.")
    shutdown_seconds: float = Field(
        default=20.0, ge=0, description="How long running attempts may end on SIGTERM."
    )
