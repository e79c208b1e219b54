"""What is deployed: no right more than is used, nothing privileged, and arguments that our own command understands."""

import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundled import ROOT

import cni
from cni.cli import command
from cni.node import entry, layout

DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "base"
OVERLAYS = {
    "k3s": layout.find("k3s"),
    "k3s-before-october-2024": layout.Layout("k3s", layout.find("k3s").conf_dir, f"{layout.K3S}/data/current/bin"),
    "microk8s": layout.find("microk8s"),
}
DAEMON = DEPLOY / "components" / "daemon"
MINIMAL = {"CHOWN", "DAC_OVERRIDE", "FOWNER"}


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def find(kind: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    (document,) = [document for document in found if document["kind"] == kind]
    return document


def pod(daemon_set: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = daemon_set["spec"]["template"]["spec"]
    return spec


def containers(daemon_set: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod(daemon_set)["initContainers"], *pod(daemon_set)["containers"]]


def built(directory: Path) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would apply."""
    kubectl = kubectl_path()
    shown = subprocess.run([kubectl, "kustomize", directory], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    return [document for document in yaml.safe_load_all(shown.stdout) if document]


@functools.cache
def kubectl_path() -> str:
    """The one that is installed, or that the cluster's tests build."""
    if installed := shutil.which("kubectl"):
        return installed
    spec = importlib.util.spec_from_file_location("executables", ROOT / "tests" / "cluster" / "executables.py")
    assert spec
    assert spec.loader
    executables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(executables)
    try:
        return str(executables.find() / "kubectl")
    except executables.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def daemon_set() -> dict[str, Any]:
    return find("DaemonSet", documents(BASE / "daemonset.yaml"))


def test_the_role_is_this_and_nothing_else():
    rules = find("ClusterRole", documents(BASE / "rbac.yaml"))["rules"]
    granted = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {
        ("", "pods", "get"),
        ("", "pods/status", "patch"),
        ("k8s.cni.cncf.io", "network-attachment-definitions", "get"),
        ("", "events", "create"),
        ("resource.k8s.io", "resourceclaims", "get"),
        ("resource.k8s.io", "resourceslices", "list"),
    }
    assert all(set(rule) == {"apiGroups", "resources", "verbs"} for rule in rules)


def test_the_agent_may_ask_for_tokens_of_its_own_account_and_of_no_other(daemon_set):
    found = documents(BASE / "rbac.yaml")
    (rule,) = find("Role", found)["rules"]
    account = find("ServiceAccount", found)["metadata"]
    assert (rule["resources"], rule["resourceNames"], rule["verbs"]) == (
        ["serviceaccounts/token"],
        [account["name"]],
        ["create"],
    )
    assert find("RoleBinding", found)["subjects"] == [{"kind": "ServiceAccount"} | account]
    assert find("Role", found)["metadata"]["namespace"] == account["namespace"]


def test_the_role_has_a_rule_for_every_path_that_is_asked_for():
    asked = "".join(path.read_text() for path in (ROOT / "cni" / "kube").glob("*.py"))
    groups = set(re.findall(r"/apis/([a-z0-9.]+)/", asked))
    granted = {
        group for rule in find("ClusterRole", documents(BASE / "rbac.yaml"))["rules"] for group in rule["apiGroups"]
    }
    assert groups <= granted


def test_the_role_is_bound_to_the_account_that_the_agent_has(daemon_set):
    found = documents(BASE / "rbac.yaml")
    account, binding = find("ServiceAccount", found)["metadata"], find("ClusterRoleBinding", found)
    assert binding["subjects"] == [{"kind": "ServiceAccount"} | account]
    assert binding["roleRef"]["name"] == find("ClusterRole", found)["metadata"]["name"]
    assert pod(daemon_set)["serviceAccountName"] == account["name"]
    assert daemon_set["metadata"]["namespace"] == account["namespace"]


def test_the_kind_of_networks_is_that_of_the_standard():
    definition = find("CustomResourceDefinition", documents(BASE / "crd.yaml"))
    spec = definition["spec"]
    assert definition["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    assert (spec["group"], spec["scope"]) == ("k8s.cni.cncf.io", "Namespaced")
    assert spec["names"] == {
        "plural": "network-attachment-definitions",
        "singular": "network-attachment-definition",
        "kind": "NetworkAttachmentDefinition",
        "shortNames": ["nad", "net-attach-def"],
    }
    (version,) = spec["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1", True, True)
    schema = version["schema"]["openAPIV3Schema"]
    assert schema["properties"]["spec"]["properties"]["config"]["type"] == "string"
    assert "required" not in schema


def test_the_agent_is_not_privileged_and_can_only_write_files(daemon_set):
    for container in containers(daemon_set):
        security = container["securityContext"]
        assert (security["privileged"], security["allowPrivilegeEscalation"]) == (False, False)
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"]["drop"] == ["ALL"]
        assert set(security["capabilities"]["add"]) == MINIMAL
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["resources"]["limits"].keys() == {"memory"}
    assert not {"hostPID", "hostIPC"} & set(pod(daemon_set))
    assert {volume["hostPath"]["path"] for volume in pod(daemon_set)["volumes"] if "hostPath" in volume} == {
        "/opt",
        "/etc/cni/net.d",
    }


def test_the_agent_comes_up_first_and_everywhere(daemon_set):
    assert pod(daemon_set)["hostNetwork"] is True
    assert pod(daemon_set)["priorityClassName"] == "system-node-critical"
    assert pod(daemon_set)["tolerations"] == [{"operator": "Exists"}]


def test_the_image_has_the_version_of_the_sources(daemon_set):
    assert {container["image"] for container in containers(daemon_set)} == {f"localhost/plexus:{cni.__version__}"}
    assert f"localhost/plexus:{cni.__version__}" in (DEPLOY / "image" / "Containerfile").read_text()


def test_the_settings_that_are_deployed_are_settings():
    data = find("ConfigMap", documents(BASE / "settings.yaml"))["data"]
    assert entry.parse_extra(data["settings.json"].encode(), "them") == {}


def arguments(daemon_set: dict[str, Any]) -> list[list[str]]:
    """Every command line of ours in it."""
    probes = [container["readinessProbe"] for container in containers(daemon_set) if "readinessProbe" in container]
    prefix = ["/plexus/bin/python3", "-I", "-m", "cni.cli"]
    probed = [probe["exec"]["command"] for probe in probes]
    assert all(words[: len(prefix)] == prefix for words in probed)
    return [container["args"] for container in containers(daemon_set)] + [words[len(prefix) :] for words in probed]


def assert_mounted(daemon_set: dict[str, Any], conf_dir: str, bin_dir: str) -> None:
    """Every directory that a container of the agent works in is the host's of the same path."""
    paths = {
        volume["name"]: volume["hostPath"]["path"] for volume in pod(daemon_set)["volumes"] if "hostPath" in volume
    }
    for container in containers(daemon_set):
        mounts = {mount["mountPath"]: paths.get(mount["name"]) for mount in container["volumeMounts"]}
        for path in (conf_dir, bin_dir, "/opt/plexus"):
            mounted = [place for place in mounts if f"/host{path}/".startswith(f"{place}/")]
            assert mounted, f"{path} is not mounted"
            assert all(mounts[place] == place.removeprefix("/host") for place in mounted)


def test_our_command_understands_the_arguments(daemon_set):
    parsed = [command.parse(words) for words in arguments(daemon_set)]
    assert [options.action for options in parsed] == ["install", "run", "status"]
    assert {options.host_root for options in parsed} == {"/host"}
    assert_mounted(daemon_set, layout.KUBEADM.conf_dir, layout.KUBEADM.bin_dir)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_mounts_and_names_the_directories_of_its_distribution(name):
    made = find("DaemonSet", built(DEPLOY / "overlays" / name))
    expected = OVERLAYS[name]
    for words in arguments(made):
        options = command.parse(words)
        assert (options.conf_dir, options.bin_dir) == (expected.conf_dir, expected.bin_dir)
    assert_mounted(made, expected.conf_dir, expected.bin_dir)


def test_every_overlay_is_tested():
    assert {path.name for path in (DEPLOY / "overlays").iterdir()} == set(OVERLAYS)


def test_what_is_applied_is_all_there_is():
    kinds = [document["kind"] for document in built(DEPLOY)]
    assert sorted(kinds) == sorted(
        document["kind"]
        for path in BASE.glob("*.yaml")
        if path.name != "kustomization.yaml"
        for document in documents(path)
    )


@pytest.mark.parametrize(
    "directory", [DEPLOY, *(DEPLOY / "overlays" / name for name in OVERLAYS)], ids=lambda path: path.name
)
def test_the_patch_for_uninstalling_fits_every_overlay(directory, tmp_path):
    daemon_set = tmp_path / "daemonset.json"
    daemon_set.write_text(json.dumps(find("DaemonSet", built(directory))))
    patch = ["patch", "--local", "--type", "json", "--output", "json", "--patch-file", str(DEPLOY / "uninstall.yaml")]
    done = subprocess.run(
        [kubectl_path(), *patch, "--filename", str(daemon_set)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    patched = json.loads(done.stdout)
    parsed = [command.parse(words) for words in arguments(patched)]
    assert [(options.action, options.stay) for options in parsed] == [("uninstall", False), ("uninstall", True)]
    mounts = {mount["mountPath"] for container in containers(patched) for mount in container["volumeMounts"]}
    assert "/host/var/lib/cni" in mounts


def with_daemon(directory: Path, scratch: Path) -> list[dict[str, Any]]:
    """What is applied by a kustomization that has the component besides."""
    paths = {"resources": directory, "components": DAEMON}
    kustomization = {key: [os.path.relpath(path, scratch)] for key, path in paths.items()}
    (scratch / "kustomization.yaml").write_text(json.dumps(kustomization))
    return built(scratch)


@pytest.mark.parametrize(
    "directory", [DEPLOY, *(DEPLOY / "overlays" / name for name in OVERLAYS)], ids=lambda path: path.name
)
def test_the_component_adds_the_daemon_to_every_overlay_and_changes_nothing_of_it(directory, tmp_path):
    found, before = with_daemon(directory, tmp_path), built(directory)
    assert [document for document in found if document in before] == before
    added = {(document["kind"], document["metadata"]["name"]) for document in found if document not in before}
    assert added == {(kind, "plexus-daemon") for kind in ("ClusterRole", "ClusterRoleBinding", "DaemonSet")}


def test_the_daemon_may_watch_what_it_remembers_and_nothing_else():
    found = documents(DAEMON / "rbac.yaml")
    assert find("ClusterRole", found)["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {
            "apiGroups": ["k8s.cni.cncf.io"],
            "resources": ["network-attachment-definitions"],
            "verbs": ["list", "watch"],
        },
    ]
    account = find("ServiceAccount", documents(BASE / "rbac.yaml"))["metadata"]
    assert find("ClusterRoleBinding", found)["subjects"] == [{"kind": "ServiceAccount"} | account]


def test_the_daemons_container_has_the_rights_to_be_on_the_host_but_no_token_and_no_more_memory_than_that():
    spec = pod(find("DaemonSet", documents(DAEMON / "daemonset.yaml")))
    (container,) = spec["containers"]
    assert (spec["hostPID"], spec["hostNetwork"], container["securityContext"]["privileged"]) == (True, True, True)
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec
    assert container["resources"]["limits"] == {"memory": "128Mi"}
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
    assert container["image"] == f"localhost/plexus:{cni.__version__}"


def test_our_command_understands_the_daemons_arguments_and_its_probe():
    (container,) = pod(find("DaemonSet", documents(DAEMON / "daemonset.yaml")))["containers"]
    probe = container["readinessProbe"]["exec"]["command"]
    assert probe[:4] == ["/plexus/bin/python3", "-I", "-m", "cni.cli"]
    parsed = [command.parse(words) for words in (container["args"], probe[4:])]
    assert [(options.action, options.check) for options in parsed] == [("daemon", False), ("daemon", True)]
