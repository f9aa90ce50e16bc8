"""The manifests render, fit the API's own schemas, and agree with each other and the settings.

There is no cluster and no kustomize here: `render` knows the few words of it that ours use, and
refuses any other.
"""

import importlib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from chassis import settings as environment
from localstack import plan

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "deploy" / "k8s"
BASE, DEV = K8S / "base", K8S / "overlays" / "dev"
Manifest = dict[str, Any]
WORDS = {"apiVersion", "kind", "namespace", "resources", "images", "replicas", "patches"}
CLUSTER_WIDE = {"Namespace"}
PROCESSES = {each.name: each for each in plan.PROCESSES}
NAME = "app.kubernetes.io/name"
OF_HANDLERS = ("SMS_", "TWILIO_")
ADDRESSES = ("_URL", "_OPS_URL")
# Lists of these are merged by name, as Kubernetes does for containers; others are replaced.
NAMED = {"containers", "env", "volumes", "ports", "volumeMounts"}


def documents(path: Path) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def render(directory: Path) -> list[Manifest]:
    asked = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert set(asked) <= WORDS, set(asked) - WORDS
    found: list[Manifest] = []
    for resource in asked.get("resources", ()):
        path = directory / resource
        assert path.exists(), path
        found += render(path) if path.is_dir() else documents(path)
    for patch in asked.get("patches", ()):
        assert set(patch) == {"path"}
        for wanted in documents(directory / patch["path"]):
            target = the(found, wanted["kind"], wanted["metadata"]["name"])
            found[found.index(target)] = merged(target, wanted)
    return [placed(each, asked) for each in found]


def placed(manifest: Manifest, asked: Manifest) -> Manifest:
    manifest = deepcopy(manifest)
    if asked.get("namespace") and manifest["kind"] not in CLUSTER_WIDE:
        manifest["metadata"]["namespace"] = asked["namespace"]
    for each in asked.get("replicas", ()):
        if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == each["name"]:
            manifest["spec"]["replicas"] = each["count"]
    tags = {each["name"]: each["newTag"] for each in asked.get("images", ())}
    for container in containers(manifest):
        if container["image"] in tags:
            container["image"] += f":{tags[container['image']]}"
    return manifest


def merged(old: Any, new: Any, *, under: str = "") -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {
            key: merged(old[key], value, under=key) if key in old else value
            for key, value in new.items()
        }
    if isinstance(old, list) and under in NAMED:
        by_name = {each["name"]: each for each in new}
        kept = [merged(each, by_name.pop(each["name"], {})) for each in old]
        return kept + list(by_name.values())
    return new


def the(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    found = [
        each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] in kinds]


def pod_of(manifest: Manifest) -> Manifest:
    template: Manifest = manifest.get("spec", {}).get("template", {})
    return template


def containers(manifest: Manifest) -> list[Manifest]:
    found: list[Manifest] = pod_of(manifest).get("spec", {}).get("containers", [])
    return found


def labels_of(manifest: Manifest) -> dict[str, str]:
    found: dict[str, str] = pod_of(manifest)["metadata"]["labels"]
    return found


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


SECRETS = documents(K8S / "secrets.example.yaml")
RENDERED = {"base": render(BASE), "dev": render(DEV)}
ALL = [each for manifests in RENDERED.values() for each in manifests]


def named(manifests: list[Manifest]) -> list[str]:
    return [f"{each['kind']} {each['metadata']['name']}" for each in manifests]


@pytest.mark.parametrize("manifest", ALL, ids=named(ALL))
def test_every_manifest_fits_the_schema_of_its_kind(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, "1.32", strict=True)


def test_the_schema_refuses_what_is_misspelt() -> None:
    wrong = deepcopy(the(RENDERED["base"], "Deployment", "gateway"))
    wrong["spec"]["replicsa"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.32", strict=True)


def test_every_file_is_part_of_what_is_rendered() -> None:
    reached = set(reachable(DEV))
    present = {path for folder in (BASE, DEV) for path in folder.rglob("*.yaml")}
    assert present == reached


def reachable(directory: Path) -> Iterator[Path]:
    asked = yaml.safe_load((directory / "kustomization.yaml").read_text())
    yield directory / "kustomization.yaml"
    for path in (directory / each for each in asked.get("resources", ())):
        yield from reachable(path.resolve()) if path.is_dir() else [path]
    yield from (directory / each["path"] for each in asked.get("patches", ()))


@pytest.mark.parametrize("manifests", RENDERED.values(), ids=RENDERED)
def test_no_name_is_used_twice(manifests: list[Manifest]) -> None:
    assert len(set(named(manifests))) == len(manifests)


@pytest.mark.parametrize("name", PROCESSES)
def test_every_process_has_all_that_belongs_to_it(name: str) -> None:
    manifests, process = RENDERED["base"], PROCESSES[name]
    deployment = the(manifests, "Deployment", name)
    (container,) = containers(deployment)
    assert container["args"] == [process.package, process.verb]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels_of(deployment).items()
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        spec = the(manifests, kind, name)["spec"]
        selector = spec["podSelector"] if kind == "NetworkPolicy" else spec["selector"]
        assert selector["matchLabels"] == {NAME: name}
    target = the(manifests, "HorizontalPodAutoscaler", name)["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", name)
    if process.verb == "api":
        migration = the(manifests, "Job", f"migrate-{name}")
        assert containers(migration)[0]["args"] == [process.package, "migrate"]


@pytest.mark.parametrize("name", PROCESSES)
def test_ports_of_container_service_probes_and_settings_are_the_same(name: str) -> None:
    manifests = RENDERED["base"]
    (container,) = containers(the(manifests, "Deployment", name))
    config = the(manifests, "ConfigMap", "mainstay")["data"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    wanted = {"ops": int(config["OPS_PORT"])}
    if PROCESSES[name].port is not None:
        wanted["http"] = int(config["PORT"])
    assert ports == wanted
    service = the(manifests, "Service", name)["spec"]
    assert {each["targetPort"]: each["port"] for each in service["ports"]} == ports
    assert service["selector"] == {NAME: name}
    paths = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        assert container[probe]["httpGet"] == {"path": path, "port": "ops"}


def test_addresses_in_the_config_are_services_and_their_ports() -> None:
    manifests = RENDERED["base"]
    config = the(manifests, "ConfigMap", "mainstay")["data"]
    for variable, value in config.items():
        if not variable.endswith(ADDRESSES):
            continue
        host, port = value.removeprefix("http://").split(":")
        wanted = "ops" if variable.endswith("_OPS_URL") else "http"
        service = the(manifests, "Service", host)
        assert variable.startswith(host.upper().replace("-", "_"))
        assert int(port) in {
            each["port"] for each in service["spec"]["ports"] if each["name"] == wanted
        }


def settings_of(package: str) -> set[str]:
    module = importlib.import_module(f"{package}.settings")
    return {
        name.upper()
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, environment.Settings)
        for name in each.model_fields
    }


@pytest.mark.parametrize("name", PROCESSES)
def test_every_variable_of_a_process_is_one_that_it_reads(name: str) -> None:
    manifests = RENDERED["base"]
    (container,) = containers(the(manifests, "Deployment", name))
    given = {each["name"] for each in container["env"]}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            given |= set(the(manifests, "ConfigMap", source["configMapRef"]["name"])["data"])
        else:
            given |= set(the(SECRETS, "Secret", source["secretRef"]["name"])["stringData"])
    known = settings_of(PROCESSES[name].package)
    for variable in given:
        plain = variable.removesuffix("_FILE")
        is_address = plain.endswith(ADDRESSES)
        assert plain in known or is_address or plain.startswith(OF_HANDLERS), variable


@pytest.mark.parametrize("name", PROCESSES)
def test_a_pod_has_the_time_to_go_unready_and_to_drain(name: str) -> None:
    manifests = RENDERED["base"]
    config = the(manifests, "ConfigMap", "mainstay")["data"]
    deployment = the(manifests, "Deployment", name)
    (container,) = containers(deployment)
    probe = container["readinessProbe"]
    unready_s, drain_s = float(config["UNREADY_S"]), float(config["DRAIN_TIMEOUT_S"])
    grace_s = pod_of(deployment)["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > unready_s + drain_s + 5
    assert unready_s >= probe["periodSeconds"] + probe["timeoutSeconds"]


@pytest.mark.parametrize("manifests", RENDERED.values(), ids=RENDERED)
def test_pods_of_ours_fit_the_restricted_standard(manifests: list[Manifest]) -> None:
    ours = [
        (each, container)
        for each in of_kind(manifests, "Deployment", "Job")
        for container in containers(each)
    ]
    assert ours
    for manifest, container in ours:
        pod, own = pod_of(manifest)["spec"], container["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 10_000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("manifests", RENDERED.values(), ids=RENDERED)
def test_everything_is_denied_that_no_policy_names(manifests: list[Manifest]) -> None:
    spec = the(manifests, "NetworkPolicy", "default-deny")["spec"]
    assert spec["podSelector"] == {}
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec


@pytest.mark.parametrize("name", PROCESSES)
def test_who_may_leave_for_a_service_is_let_in_there(name: str) -> None:
    manifests = RENDERED["base"]
    numbers = {"http": 8080, "ops": 9090}
    leaves = the(manifests, "NetworkPolicy", name)["spec"]["egress"]
    for rule in leaves:
        for peer in rule.get("to", ()):
            if "podSelector" not in peer:
                continue
            callee = peer["podSelector"]["matchLabels"][NAME]
            doors = the(manifests, "NetworkPolicy", callee)["spec"]["ingress"]
            let_in = {
                numbers[port["port"]]
                for door in doors
                for port in door["ports"]
                if "from" not in door
                or any(
                    selects(each["podSelector"], {NAME: name})
                    for each in door["from"]
                    if "podSelector" in each
                )
            }
            assert {port["port"] for port in rule["ports"]} <= let_in, callee


def test_secrets_that_pods_need_are_in_the_example() -> None:
    example = {
        (each["kind"], each["metadata"]["name"]): set(each.get("stringData") or each["data"])
        for each in documents(K8S / "secrets.example.yaml")
    }
    for manifest in of_kind(RENDERED["base"], "Deployment", "Job"):
        for volume in pod_of(manifest)["spec"]["volumes"]:
            if "secret" in volume:
                keys = example["Secret", volume["secret"]["secretName"]]
                assert {"database_url", "service.pem"} <= keys
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in example
        for container in containers(manifest):
            for each in container["env"]:
                if reference := each.get("valueFrom", {}).get("secretKeyRef"):
                    assert reference["key"] in example["Secret", reference["name"]]


def test_the_dev_overlay_runs_one_of_each_on_images_of_this_checkout() -> None:
    for deployment in of_kind(RENDERED["dev"], "Deployment"):
        assert deployment["spec"]["replicas"] == 1
        assert {each["image"] for each in containers(deployment)} <= {
            "mainstay:dev", "mainstay-tools:dev",
        }  # fmt: skip
    for scaler in of_kind(RENDERED["dev"], "HorizontalPodAutoscaler"):
        assert scaler["spec"]["minReplicas"] == 1
    config = the(RENDERED["dev"], "ConfigMap", "sms")["data"]
    assert config["SMS_PROVIDER"] == "sandbox"
    assert config["TWILIO_BASE_URL"].startswith("http://127.0.0.1:")
