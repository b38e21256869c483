"""The parts of a gateway: settings, adapters, and the request and deployment pipelines; how it starts and ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from app.access.admins import AdminCheck
from app.access.admission import Admission
from app.access.hosts import HostAllowList
from app.access.keys import Keys
from app.access.rate_limit import RateLimiter
from app.access.throttle import FailedKeyThrottle
from app.core.model import Replica
from app.core.route_table import is_down, wanted
from app.core.version_record import version_record
from app.dispatch.connection import WireLimits
from app.dispatch.connection import connect as connect_replica
from app.dispatch.limits import QueueSettings
from app.dispatch.pipeline import Dispatcher
from app.errors import ReplicaProtocolError
from app.lifecycle.chaos import ChaosControl
from app.lifecycle.deployments import Deployments
from app.lifecycle.health.monitor import Monitor
from app.lifecycle.health.usage import UsageSampler
from app.lifecycle.intake.staging import Staging
from app.lifecycle.models_folder.watcher import ModelsFolder
from app.lifecycle.pipeline import DeploymentPipeline
from app.lifecycle.probe import Connect, ProbedConnection
from app.lifecycle.rollouts.ab import Experiments
from app.lifecycle.rollouts.canaries import Canaries
from app.lifecycle.rollouts.shadows import Shadows
from app.lifecycle.state import DeploymentState
from app.observe.history import History
from app.protocols.v2.service import V2Admin, V2Service
from app.public.surface import PublicSurface
from app.registry.catalog.database import CatalogDatabase
from app.registry.catalog.experiments import SqlExperimentStore
from app.registry.catalog.rollouts import SqlRolloutStore
from app.registry.containers import ContainersFile
from app.registry.keys import KeyEntry, KeyStore
from app.registry.models import ModelStore
from app.registry.unsaved import Unsaved
from app.runtime.packages.lock_cache import LockCache
from app.runtime.process import tree as process_tree
from app.runtime.process.background_group import BackgroundGroup
from app.runtime.reader_process import ReaderProcess
from app.runtime.targets import available_targets, home_label
from app.settings import Settings
from app.share.ngrok import NgrokTunnel
from app.share.record import ShareRecord
from app.share.share import Share
from app.share.ssh import SshTunnel
from app.share.traffic import FollowedTraffic
from app.share.tunnel import NewKey, Tunnel

if TYPE_CHECKING:
    import grpc

MIB = 1 << 20


class Gateway:
    """The parts of one gateway, as attributes with the names that the rest of the code uses."""

    def __init__(self, settings: Settings) -> None:
        """Wire the parts. Needs a running event loop where a port for gRPC is set. Raises InvalidSetting."""
        self.settings = settings
        self.max_body_bytes = settings.max_body_mb * MIB
        self.max_upload_bytes = settings.max_upload_mb * MIB
        self.unsaved = Unsaved()
        self._store = ModelStore(settings.upload_root, self.unsaved)
        self._containers = ContainersFile(settings.registry_path, self.unsaved)
        self.state = DeploymentState(self._store, self._containers)
        self.catalog = CatalogDatabase(settings.catalog_place, lambda: map(version_record, self._store.all()))
        self.keys = Keys(settings.keys, settings.keys_of_admins)
        self.wrong_keys = FailedKeyThrottle()
        self.key_store = KeyStore(settings.registry_path.with_name("keys.json"), self.unsaved)
        self.key_store.tell(self.keys)
        self.flow = flow(settings)
        limits = RateLimiter(settings.rate_limit_requests, settings.rate_limit_window_seconds)
        self.dispatcher = Dispatcher(limits, self.flow, self._suspect, self._sample)
        self.hosts = HostAllowList(settings.allowed_hosts.split(","))
        self.admission = Admission(
            self.keys,
            must_have_key=lambda: self.keys.required,
            has_host=self.hosts.known,
            wrong_keys=self.wrong_keys,
            limits_owner=settings.limits_owner,
        )
        self.closing = asyncio.Event()
        self._readers_group = BackgroundGroup(f"prism-{home_label(settings)}-readers")
        self.deployments = Deployments(self.state, self._pipeline(), connector(self.flow.wire))
        self.chaos = ChaosControl(self.deployments, self.dispatcher.set_chaos)
        rollouts = SqlRolloutStore(self.catalog)
        self.canaries = Canaries(rollouts, self.deployments, self.dispatcher.evidence)
        self.shadows = Shadows(rollouts, self.deployments, self.dispatcher.evidence, self.dispatcher.take_shadow_pairs)
        self.experiments = Experiments(
            rollouts,
            SqlExperimentStore(self.catalog),
            self.deployments,
            self.dispatcher.take_exposures,
            self.dispatcher.exposure,
        )
        self.public_surface = PublicSurface(
            self.state,
            self.dispatcher,
            self.keys,
            max_body_bytes=self.max_body_bytes,
            receive_timeout_seconds=settings.receive_timeout_seconds,
            keep_alive_seconds=settings.keep_alive_seconds,
            drain_timeout_seconds=settings.drain_timeout_seconds,
        )
        self.share = Share(
            tunnel(settings),
            self.public_surface,
            ShareRecord(settings.registry_path.with_name("share.json"), process_tree, self.unsaved),
            has_keys=lambda: self.keys.required or bool(self.key_store.entries()),
            create_key=lambda name: new_key(*self.key_store.create(name)),
        )
        self.staging = Staging(self.deployments)
        interval_seconds = settings.models_dir_interval_seconds
        self.models_folder = ModelsFolder(self.deployments, settings.models_folder, interval_seconds)
        self.history = History(self.dispatcher.tallies)
        self.vitals = UsageSampler(self.deployments)
        self.monitor = Monitor(
            self.deployments,
            connector(self.flow.wire),
            settings.health_monitor_interval_seconds,
            settings.predict_timeout_seconds,
        )
        self.v2_service = V2Service(self.dispatcher, self.admission, self.state, self.is_ready)
        self.v2_admin = V2Admin(self.deployments)
        self._grpc_listener = self._grpc() if settings.grpc_port else None

    def _pipeline(self) -> DeploymentPipeline:
        settings = self.settings
        resolutions = LockCache(settings.environments / "resolved", settings.resolution_max_age_hours * 3600)
        return DeploymentPipeline(
            settings=settings,
            state=self.state,
            targets=available_targets(settings),
            resolve=resolutions.resolve,
            connect=connector(self.flow.wire),
            traffic=FollowedTraffic(self.dispatcher, lambda table: self.share.follow(table)),
            ask=ReaderProcess(settings.inspect_memory_mb, settings.inspect_timeout_seconds, self._readers_group).ask,
        )

    def _grpc(self) -> grpc.aio.Server:
        """Return the gRPC server, bound to its port but not started."""
        from app.protocols.v2.grpc.server import bound
        from app.protocols.v2.grpc.service import Service

        admins = AdminCheck(self.keys, self.wrong_keys)
        service = Service(self.dispatcher, self.v2_service, self.v2_admin, admins)
        return bound(service, self.settings.host, self.settings.grpc_port, self.max_body_bytes)

    def _suspect(self, replica: Replica, reason: str) -> bool:
        return self.settings.enable_health_monitor and self.monitor.suspect(replica, reason)

    def _sample(self, model_id: str) -> bytes | None:
        """Return the request body that the model answered in its probe; None before the first probe."""
        model = self.state.model(model_id)
        return (
            msgspec.json.encode(model.findings.sample)
            if model is not None and model.findings.sample is not None
            else None
        )

    def is_ready(self) -> bool:
        """Return whether no model is down, see `is_down`, unless another version serves under its name."""
        down = [deployment for deployment in wanted(self.state.deployments()) if is_down(deployment)]
        return all(self.state.live_endpoint(deployment.name) is not None for deployment in down)

    def acquire(self) -> None:
        """Lock the registry for this gateway. Raises Conflict if another gateway holds it."""
        self._containers.acquire()

    def release(self) -> None:
        self._containers.release()

    async def begin(self) -> None:
        """Adopt running replicas, start what should run, and begin to watch them."""
        self.unsaved.begin()
        await self.share.clear_up()
        self._store.load()
        self.key_store.load()
        loaded = await self.canaries.load() if self.catalog.exists else None
        shadows_loaded = await self.shadows.load() if loaded else loaded
        experiments_loaded = await self.experiments.load() if loaded else loaded
        await self.deployments.resume(registry_lost=not self._containers.load())
        self.catalog.begin()
        self.canaries.begin_judging(loaded=loaded)
        self.shadows.begin_comparing(loaded=shadows_loaded)
        self.experiments.begin_recording(loaded=experiments_loaded)
        if self.settings.enable_health_monitor:
            self.monitor.begin()
        self.history.begin()
        self.models_folder.begin()
        if self.settings.enable_tunnel:
            await self.share.share_everything(self.state.route_table())
        if self._grpc_listener is not None:
            await self._grpc_listener.start()

    def end_streams(self) -> None:
        """End the answers that could go on for ever. A server that stops waits for all others."""
        self.closing.set()
        self.dispatcher.end_streams()

    async def end(self, *, keep_models: bool) -> None:
        """Answer the requests under way, then stop.

        keep_models: leave the models running, for the next gateway to adopt.
        """
        self.chaos.end_all()
        if self._grpc_listener is not None:
            await self._grpc_listener.stop(self.settings.drain_timeout_seconds)
        await self.share.close()
        await self.public_surface.close()
        await self.history.end()
        await self.models_folder.end()
        await self.monitor.end()
        await self.canaries.end()
        await self.shadows.end()
        await self.experiments.end()
        await self.deployments.shut_down(keep_models=keep_models)
        await self.dispatcher.close()
        await self.catalog.close()
        await asyncio.to_thread(self._readers_group.remove)
        await self.unsaved.end()


def flow(settings: Settings) -> QueueSettings:
    return QueueSettings(
        max_batch_size=settings.max_batch_size,
        queue_length=settings.queue_length,
        window_seconds=settings.batch_window_ms / 1000,
        timeout_seconds=settings.predict_timeout_seconds,
        heartbeat_timeout_seconds=settings.heartbeat_timeout_seconds,
        log_timings=settings.debug_mode,
        max_streams=settings.max_streams,
        wire=WireLimits(
            max_answer_bytes=settings.max_answer_mb * MIB, stall_seconds=settings.heartbeat_timeout_seconds
        ),
    )


def tunnel(settings: Settings) -> Tunnel:
    """Return the tunnel that PRISM_TUNNEL names."""
    timeout = settings.tunnel_start_timeout_seconds
    if settings.ssh_tunnel is None:
        token, folder = settings.ngrok_authtoken.get_secret_value(), settings.run_folder / "ngrok"
        return NgrokTunnel(token, folder, process_tree, start_timeout_seconds=timeout)
    return SshTunnel(
        settings.ssh_tunnel,
        process_tree,
        start_timeout_seconds=timeout,
        identity=settings.tunnel_identity,
        known_hosts=settings.tunnel_known_hosts,
    )


def new_key(entry: KeyEntry, key: str) -> NewKey:
    return NewKey(entry.id, entry.name, key)


def connector(limits: WireLimits) -> Connect:
    """Return the function by which the lifecycle connects to a replica: over the connection class of dispatch."""

    async def connect(replica: Replica, timeout_seconds: float) -> tuple[ProbedConnection, dict[str, Any]]:
        connection = await connect_replica(replica, timeout_seconds, limits=limits)
        try:
            return connection, connection.welcome()
        except ReplicaProtocolError:
            connection.close()
            raise

    return connect
