"""A real PostgreSQL on loopback, run by a user without rights, with a password."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from tests.acceptance.server import free_port
from tests.conftest import postgres_programs

USER = "prism"
PASSWORD = "p@ss:w/rd?"
QUICK = "-c fsync=off -c full_page_writes=off -c max_connections=40 -c shared_buffers=16MB"


class Postgres:
    """A server with a cluster of its own, in a folder that `remove` removes."""

    def __init__(self) -> None:
        programs = postgres_programs()
        assert programs is not None
        self._programs = programs
        # Not below pytest's folder, which others than its owner may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="prism-postgres-"))
        self._owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self._owner is not None:
            os.chown(self._folder, self._owner.pw_uid, self._owner.pw_gid)
        self._data = self._folder / "data"
        self.port = free_port()
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            *("initdb", "--no-sync", "--pgdata", str(self._data), "--username", USER, "--encoding", "UTF8"),
            *("--locale", "C.UTF-8", "--auth", "scram-sha-256", "--pwfile", str(password)),
        )
        self.start()

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def empty_database(self) -> str:
        """Remove what is in the database, and return its URL. A database for each test would be 1000 files each."""
        self.execute("DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public")
        return self.url("postgres")

    def execute(self, statement: str) -> str:
        """Run statements and return what psql prints of their rows."""
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--username", USER, "--dbname", "postgres")
        return self._run("psql", "--no-psqlrc", "-At", *where, "--command", statement)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' {QUICK}"
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "-w", "-s", "-D", str(self._data), "-l", log, "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-s", "-m", "immediate", "-D", str(self._data))

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> str:
        owner = {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []} if self._owner else {}
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self._folder,
            env={"PATH": "/usr/bin:/bin", "PGPASSWORD": PASSWORD, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "psql" else subprocess.DEVNULL,  # the server keeps pg_ctl's open
            stderr=subprocess.STDOUT if program == "psql" else subprocess.DEVNULL,
            text=True,
            timeout=300,
            check=False,
            **owner,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}"
        return (done.stdout or "").strip()
