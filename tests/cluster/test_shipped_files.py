"""What `cluster/` and `docker/` ship, as far as it can be checked without an engine."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pace_tune.cli.main import group
from tests.conftest import ROOT

FOLDERS = (ROOT / "cluster", ROOT / "docker")
FILES = sorted(file for folder in FOLDERS for file in folder.rglob("*") if file.is_file() and file.name != ".env")
YAMLS = [file for file in FILES if file.suffix == ".yaml"]
COMPOSE = ROOT / "docker" / "compose.yaml"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
KUBERNETES = sorted((ROOT / "cluster" / "kubernetes").glob("*.yaml"))
CLOUDS = [ROOT / "cluster" / "aws.yaml", ROOT / "cluster" / "gcp.yaml"]
SECRET_NAME = re.compile(r"password|secret|token|access_key|database_uri|store_uri|pace_tune_database", re.IGNORECASE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def documents(file: Path) -> list[Any]:
    return list(yaml.safe_load_all(file.read_text()))


def nodes(value: Any) -> Iterator[dict]:
    """Every mapping of a document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(inner)


def mappings(file: Path) -> list[dict]:
    return [node for document in documents(file) for node in nodes(document)]


def containers(file: Path) -> list[dict]:
    return [container for node in mappings(file) for container in node.get("containers", [])]


def images() -> list[str]:
    keys = ("image", "head_image", "worker_image")
    found = [node[key] for file in YAMLS for node in mappings(file) for key in keys if isinstance(node.get(key), str)]
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, flags=re.MULTILINE))
    return found + [image for image in re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE) if image not in stages]


def test_images_are_pinned_to_a_version():
    assert len(images()) > 8
    assert not [image for image in images() if not re.search(r":[^:/]*\d+\.\d+|:RELEASE\.\d{4}-", image) or image.endswith("latest")]


@pytest.mark.parametrize("file", YAMLS, ids=name)
def test_nothing_is_privileged(file: Path):
    forbidden = {"privileged": True, "allowPrivilegeEscalation": True, "hostNetwork": True, "hostPID": True, "network_mode": "host"}
    assert not [node for node in mappings(file) for key, value in forbidden.items() if node.get(key) == value]
    assert "docker.sock" not in file.read_text()


@pytest.mark.parametrize("file", KUBERNETES, ids=name)
def test_pods_run_without_rights(file: Path):
    assert containers(file)
    for container in containers(file):
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert {"requests", "limits"} <= set(container["resources"])
    specs = [node for node in mappings(file) if "containers" in node]
    assert all(spec["securityContext"]["runAsNonRoot"] for spec in specs)


def ray_specs() -> list[dict]:
    cluster, job = (documents(ROOT / "cluster" / "kubernetes" / file)[0]["spec"] for file in ("raycluster.yaml", "rayjob.yaml"))
    return [cluster, job["rayClusterSpec"]]


def test_the_token_is_on_everywhere():
    for spec in ray_specs():
        assert spec["authOptions"] == {"mode": "token"}
    ray_pods = [c for file in KUBERNETES for c in containers(file) if c["name"].startswith("ray-")]
    assert len(ray_pods) == 4
    assert all({"name": "RAY_AUTH_MODE", "value": "token"} in pod["env"] for pod in ray_pods)
    services = documents(COMPOSE)[0]["services"]
    assert all(services[each]["environment"]["RAY_AUTH_MODE"] == "token" for each in ("head", "worker"))
    assert "RAY_AUTH_MODE=token" in DOCKERFILE
    assert all("--env=RAY_AUTH_MODE=token" in documents(file)[0]["docker"]["run_options"] for file in CLOUDS)
    assert "export RAY_AUTH_MODE=token" in (ROOT / "cluster" / "slurm.sh").read_text()


def test_kuberay_gets_its_fields_and_scales_gpus_from_nothing():
    for spec in ray_specs():
        assert spec["enableInTreeAutoscaling"]
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        (gpu,) = spec["workerGroupSpecs"]
        assert (gpu["minReplicas"], gpu["replicas"]) == (0, 0) < (gpu["maxReplicas"], 1)
        assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert ray_specs()[0] == ray_specs()[1]
    assert all({"apiVersion", "kind", "metadata"} <= set(document) for file in KUBERNETES for document in documents(file))


@pytest.mark.parametrize("file", CLOUDS, ids=name)
def test_ray_up_files_satisfy_rays_schema(file: Path):
    import json

    import jsonschema
    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(documents(file)[0], schema)


def test_published_ports_stay_on_loopback():
    published = [port for node in mappings(COMPOSE) for port in node.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_secrets_come_from_the_environment_only():
    services = documents(COMPOSE)[0]["services"]
    given = [(key, value) for service in services.values() for key, value in service.get("environment", {}).items()]
    for key, value in given:
        if SECRET_NAME.search(key):
            assert ":?" in value, key
        assert not re.search(r"://[^:@/]+:[^$@][^@]*@", str(value)), key
    for file in KUBERNETES:
        for variable in (each for container in containers(file) for each in container.get("env", [])):
            assert not (SECRET_NAME.search(variable["name"]) and "value" in variable), variable["name"]
    example = (ROOT / "docker" / ".env.example").read_text()
    assert all(line.endswith("=") for line in example.splitlines() if line and not line.startswith("#"))
    assert {each.split("=")[0] for each in example.splitlines() if "=" in each} == set(re.findall(r"\$\{([A-Z0-9_]+)", COMPOSE.read_text()))


def test_each_image_runs_as_a_user_and_says_how_it_is():
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    by_name = {stage.split()[2]: stage for stage in stages}
    for target in ("head", "worker", "mlflow"):
        assert "HEALTHCHECK" in by_name[target]
        assert "USER pace" in by_name[target] + by_name["tuner" if target != "mlflow" else target]
    assert all("--constraint constraints.txt" in line for line in re.findall(r"pip install.*", DOCKERFILE))
    pins = (ROOT / "docker" / "requirements-server.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in pins if not line.startswith("#"))


def test_the_build_context_holds_what_is_copied():
    ignored = (ROOT / ".dockerignore").read_text()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, flags=re.MULTILINE) for word in line.split()]
    assert copied
    for path in copied:
        assert (ROOT / path).exists()
        assert f"!{path.removeprefix('./')}\n" in ignored


# Commands.


def texts() -> Iterator[tuple[str, str]]:
    """(file, text) with every command of ours in one line."""
    for file in FILES:
        if file.name == "compose.yaml" or file.suffix in {".md", ".sh"} or file.parent.name == "cluster":
            yield name(file), file.read_text().replace("\\\n", " ")
    for each in re.findall(r"CMD (\[.*\])$", DOCKERFILE, flags=re.MULTILINE):
        words = yaml.safe_load(each)
        yield "docker/Dockerfile", words[2] if words[0] == "sh" else shlex.join(words)
    for file in KUBERNETES:
        yield name(file), "\n".join(shlex.join(c["args"]) for c in containers(file) if "args" in c)
        yield name(file), "\n".join(str(node["entrypoint"]) for node in mappings(file) if "entrypoint" in node)


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Every call of a program: where, and its words without comments and what follows it in the shell."""
    found = []
    for where, text in texts():
        for rest in re.findall(
            rf"(?:^|[`&;(]|\$ |exec|- |minutes|&& |\s{{4}}|RAY_ADDRESS=\S+ )\s*{program} ([^\n`]*)", text, flags=re.MULTILINE
        ):
            words = shlex.split(re.split(r"\s#\s|\s{4,}| 2>| &&? ?| ;|\)$", rest + " ")[0])
            found.append((where, words))
    return found


def test_our_own_commands_parse():
    calls = commands("pace-tune") + commands("python -m pace_tune")
    assert {words[0] for _, words in calls} >= {"sweep", "plan", "submit", "status", "logs", "stop", "resume", "extend", "list"}
    for where, words in calls:
        command = group.get_command(click.Context(group), words[0])
        assert command is not None, (where, words)
        command.make_context(words[0], words[1:])


def test_commands_of_ray_parse():
    from ray.scripts.scripts import cli

    calls = commands("ray")
    assert {words[0] for _, words in calls} >= {"start", "stop", "health-check", "up"}
    for where, words in calls:
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None, (where, words)
        command.make_context(words[0], [word.replace("$port", "6379").replace("$RAY_HEAD", "h:1") for word in words[1:]])


def test_commands_of_mlflow_parse():
    from mlflow.cli import server

    calls = commands("mlflow")
    assert len(calls) == 2
    for _, (_, *words) in calls:
        parsed = server.make_context("server", list(words)).params
        assert parsed["app_name"] == "basic-auth"
        assert {"mlflow:5000", "localhost:5000"} <= set(parsed["allowed_hosts"].split(","))


def test_the_slurm_script_is_a_shell_script():
    assert subprocess.run(["bash", "-n", str(ROOT / "cluster" / "slurm.sh")], check=False).returncode == 0
