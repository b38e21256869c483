"""Describes a replica's process as a value: what is started, where, and what it is handed."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from app.core.address import Address
from app.core.model import Limits, ModelVersion, Variant
from app.runtime.interpreter import isolated
from app.runtime.process.replica_end import Outside
from app.runtime.runtime_config import contract_of, execution_of
from model_container.contract.config import VARIABLE, Confinement, RuntimeConfig

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


class ProcessPlan(Struct, frozen=True):
    """One process to be. folder: of the model. place: the folder of this replica.

    python: path of the base interpreter. environment: the folder of the packages. runtime: the folder that holds the
    copy of model_container/. outside: the open descriptors that it is handed.
    """

    model: ModelVersion
    variant: Variant
    folder: Path
    limits: Limits
    place: Path
    python: str
    environment: Path
    runtime: Path
    address: Address
    token: str
    outside: Outside

    @property
    def work(self) -> Path:
        """The only folder that it may write to, and its working directory."""
        return self.place / "work"

    @property
    def log_folder(self) -> Path:
        return self.folder / self.variant.log_folder

    def command(self) -> list[str]:
        return isolated(self.python, self.runtime / "model_container" / "__main__.py")

    def variables(self) -> dict[str, str]:
        """Return its variables. It gets nothing of the gateway's: no keys, no proxies, no search paths."""
        config = self.runtime_config()
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.work),
            "TMPDIR": str(self.work),
            **dict.fromkeys(THREAD_VARIABLES, str(config.threads)),
            VARIABLE: config.to_json(),
        }

    def runtime_config(self) -> RuntimeConfig:
        artifact, code = self.folder / self.variant.file, self.folder / "code"
        has_code = self.variant.code and code.is_dir()
        readable = [self.environment, self.runtime, artifact.parent, *([code] if has_code else [])]
        return RuntimeConfig(
            artifact=str(artifact),
            format=self.variant.format.value,
            code=str(code) if has_code else "",
            environment=str(self.environment),
            socket=self.address.socket,
            port=self.address.port,
            token=self.token,
            call=contract_of(self.model, self.variant),
            **execution_of(self.model, self.variant, self.limits),
            confinement=Confinement(
                namespaces=True,
                readable=[str(path) for path in readable],
                writable=[str(self.work)],
                memory_mb=self.limits.memory_mb,
                pids=self.limits.pids,
                file_mb=self.limits.memory_mb,
                **self.outside.fields(),
            ),
        )
