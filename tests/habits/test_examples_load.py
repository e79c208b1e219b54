"""Every example is what it says: a configuration that loads, or manifests with a line that tells what they show."""

import pytest
from tracked import ROOT, name

from cni.kube.manifests import KINDS, Manifests
from cni.meta import selection
from cni.plugin import confdir
from cni.spec import netconf

EXAMPLES = ROOT / "conf-examples"
CONFIGURATIONS = sorted(EXAMPLES.rglob("*.conflist"))
MANIFESTS = sorted(EXAMPLES.rglob("*.yaml"))
FOLDERS = sorted({path.parent for path in MANIFESTS})


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=name)
def test_a_configuration_loads(path):
    assert confdir.load_file(str(path)).plugins


@pytest.mark.parametrize("path", MANIFESTS, ids=name)
def test_manifests_begin_with_one_line_that_tells_what_they_show(path):
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("# ")
    assert first.endswith(".")
    assert not second.startswith("#")


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_the_manifests_of_a_folder_load_together(folder, tmp_path):
    source = Manifests(str(folder), str(tmp_path))
    source.check_ready()
    kinds = set()
    for manifest in source._manifests():
        for kind, namespace, own in manifest.objects:
            kinds.add(kind)
            if kind == "Pod":
                pod = source.get_pod(namespace, own)
                selection.parse(pod.annotations.get(selection.NETWORKS, ""), selection.NETWORKS, namespace)
            elif config := source.find_network(namespace, own).config:
                assert netconf.parse(config).plugins
    assert kinds <= set(KINDS)
    assert "Pod" in kinds
