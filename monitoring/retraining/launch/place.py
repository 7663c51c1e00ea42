"""Which launcher runs the trainings of jobs, by the environment."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import httpx
import msgspec

from handlers.observe.settings import SECRET, EnvironmentSettings, says, variables
from monitoring.retraining.launch.kubernetes import KubernetesLauncher, read_manifest
from monitoring.retraining.launch.launcher import Launcher
from monitoring.retraining.launch.process import ProcessLauncher
from monitoring.retraining.launch.ray import RayLauncher
from monitoring.retraining.launch.submissions import TIMEOUT, Api
from serving.hosts.ray.settings import Place
from serving.settings import ROOT, Folders, RecipeSettings, Settings

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # of a pod: its token, namespace and authority
RAY_URL = "http://127.0.0.1:8265"  # of a dashboard, where Ray is told nothing else


class TrainingPlace(EnvironmentSettings, frozen=True, rename=variables("TRAIN_")):
    """Where trainings of jobs run."""

    root: ClassVar[Path] = ROOT
    on: Annotated[
        Literal["process", "ray", "kubernetes"],
        says(
            "Where retrainings run: as a process beside the monitor, as jobs of a Ray cluster, or as Kubernetes Jobs. "
            "A cluster's machines must see MARLOOP_RUN_DIR, MARLOOP_MODEL_STORE and MARLOOP_RUNS at the same paths."
        ),
    ] = "process"
    ray_url: Annotated[
        str,
        says(
            "The dashboard of the Ray cluster, which takes jobs: keep it private. Unset: that of the Ray host, where "
            "MARLOOP_HOST is ray, else http://127.0.0.1:8265.",
            examples=["http://127.0.0.1:8265"],
        ),
    ] = ""
    ray_cpus: Annotated[float, says("Cores that Ray keeps for a retraining.", ge=0, le=1024)] = 1
    ray_token: Annotated[
        str,
        says(
            "The token of a Ray cluster that asks for one (RAY_AUTH_MODE=token); unset: that of the Ray host, where "
            "MARLOOP_HOST is ray, else none.",
            extra_json_schema=SECRET,
        ),
    ] = msgspec.field(default="", name="RAY_AUTH_TOKEN")
    kubernetes_url: Annotated[
        str,
        says(
            "The API server of Kubernetes, such as http://127.0.0.1:8001 of `kubectl proxy`; unset: that of the "
            "cluster in which the monitor's pod runs, by its service account.",
            examples=["http://127.0.0.1:8001"],
        ),
    ] = ""
    kubernetes_namespace: Annotated[
        str, says("Namespace of the Jobs; unset: that of the monitor's pod, else default.", examples=["marloop"])
    ] = ""
    kubernetes_manifest: Annotated[
        Path | None,
        says(
            "File of the Job from which each retraining's is made, with its image and volumes: "
            "docs/machines/distributed-training.md."
        ),
    ] = None


def launcher_of(place: TrainingPlace, settings: Settings, environ: Mapping[str, str]) -> Launcher:
    """Return the launcher that the settings name.

    Raises:
        ValueError: something that it needs is not there; names the variable.
    """
    if place.on == "ray":
        return RayLauncher(Api("Ray", _ray_client(place, settings)), training_variables(environ), place.ray_cpus)
    if place.on == "kubernetes":
        if place.kubernetes_manifest is None:
            raise ValueError("MARLOOP_TRAIN_ON is kubernetes: MARLOOP_TRAIN_KUBERNETES_MANIFEST must name a Job's file")
        manifest = read_manifest(place.kubernetes_manifest)
        api = Api("Kubernetes", _kubernetes_client(place.kubernetes_url, environ, ACCOUNT))
        namespace = place.kubernetes_namespace or _read(ACCOUNT / "namespace") or "default"
        return KubernetesLauncher(api, namespace, manifest, training_variables(environ))
    return ProcessLauncher(settings)


def training_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a training that runs elsewhere: its folders as whole paths, and no secret."""
    folders, recipes = Folders.from_environment(environ), RecipeSettings.from_environment(environ)
    whole = msgspec.structs.replace(folders, cache=folders.cache.resolve(), runs=folders.runs.resolve())
    places = ":".join(str(folder.resolve()) for folder in recipes.folders)
    return {**whole.to_environment(), "MARLOOP_RECIPES": places, "MARLOOP_ENV_FILE": "off"}


def _ray_client(place: TrainingPlace, settings: Settings) -> httpx.Client:
    """Return a client of the dashboard that the settings name, else of the Ray host's own, else of Ray's default."""
    bearer = {"Authorization": f"Bearer {place.ray_token}"} if place.ray_token else {}
    if place.ray_url or settings.host != "ray":
        url = place.ray_url or RAY_URL
        return httpx.Client(base_url=url, headers=bearer, timeout=TIMEOUT, trust_env=False)
    head = Place(settings)

    def authorize(request: httpx.Request) -> httpx.Request:  # a head that is started anew may have another token
        if token := _read(head.token):
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    return httpx.Client(base_url=head.dashboard, auth=authorize, timeout=TIMEOUT, trust_env=False)


def _kubernetes_client(url: str, environ: Mapping[str, str], account: Path) -> httpx.Client:
    if url:
        return httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False)
    try:
        host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    except KeyError as error:
        raise ValueError(
            "MARLOOP_TRAIN_ON is kubernetes, and the monitor runs in no pod: MARLOOP_TRAIN_KUBERNETES_URL must name "
            "the API server, such as that of `kubectl proxy`"
        ) from error

    def authorize(request: httpx.Request) -> httpx.Request:  # the token is renewed every hour
        request.headers["Authorization"] = f"Bearer {_read(account / 'token')}"
        return request

    address = f"[{host}]" if ":" in host else host
    context = ssl.create_default_context(cafile=str(account / "ca.crt"))
    return httpx.Client(
        base_url=f"https://{address}:{port}", auth=authorize, verify=context, timeout=TIMEOUT, trust_env=False
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
