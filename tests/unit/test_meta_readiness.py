"""The meta plugin waits for the default network, which a file says is ready; taking back waits for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cni.meta import plugin, readiness
from cni.meta.config import MetaConf
from cni.spec.errors import PluginUnavailable, TryAgainLater
from cni.spec.request import Request


class Clock:
    """Time that passes only by sleeping; the file appears at a moment of it."""

    def __init__(self, path: Path, appears: float | None = None) -> None:
        self.path = path
        self.appears = appears
        self.now = 100.0
        self.look()

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        self.look()

    def look(self) -> None:
        if self.appears is not None and self.passed >= self.appears:
            self.path.touch()

    @property
    def passed(self) -> float:
        return self.now - 100


def conf(path: Path | str, **keys: Any) -> MetaConf:
    return MetaConf(readiness_indicator_file=str(path), **keys)


@pytest.mark.parametrize(("appears", "waited"), [(0, 0), (0.1, 0.25), (3, 3), (44.9, 45)])
def test_it_goes_on_as_soon_as_the_file_is_there(appears: float, waited: float, tmp_path: Path):
    clock = Clock(tmp_path / "ready", appears)

    readiness.wait(conf(clock.path), clock=clock.read, sleep=clock.sleep)

    assert clock.passed == waited


@pytest.mark.parametrize("seconds", [0, 0.3, 7, 45])
def test_after_its_time_it_says_which_file_is_missing(seconds: float, tmp_path: Path):
    clock = Clock(tmp_path / "ready")

    with pytest.raises(TryAgainLater) as caught:
        readiness.wait(conf(clock.path, readiness_timeout=seconds), clock=clock.read, sleep=clock.sleep)

    assert clock.passed == pytest.approx(seconds)
    assert (caught.value.code, caught.value.id) == (11, "PLX-NOT-READY")
    told = f'waited {seconds:g} seconds for the file of `readinessindicatorfile`, "{clock.path}": No such file'
    assert caught.value.reason.startswith(told)


@pytest.mark.parametrize(("seconds", "waited"), [(45, 10), (10, 10), (4, 4), (0, 0)])
def test_status_is_not_kept_waiting_for_long(seconds: float, waited: float, tmp_path: Path):
    clock = Clock(tmp_path / "ready")

    with pytest.raises(PluginUnavailable, match=str(clock.path)) as caught:
        readiness.wait_for_status(conf(clock.path, readiness_timeout=seconds), clock=clock.read, sleep=clock.sleep)

    assert clock.passed == pytest.approx(waited)
    assert (caught.value.code, caught.value.id) == (50, "PLX-NOT-READY")


def test_without_the_key_nothing_is_waited_for(tmp_path: Path):
    clock = Clock(tmp_path / "ready")
    readiness.wait(conf(""), clock=clock.read, sleep=clock.sleep)
    assert clock.passed == 0


def test_a_directory_will_do(tmp_path: Path):
    readiness.wait(conf(tmp_path, readiness_timeout=0))


def test_a_path_that_cannot_be_is_missing_too():
    with pytest.raises(TryAgainLater, match="null byte"):
        readiness.wait(conf("/a\0b", readiness_timeout=0))


def request(command: str, directory: Path, **keys: Any) -> Request:
    manifests = directory / "manifests"
    manifests.mkdir()
    data = {
        "cniVersion": "1.1.0",
        "name": "plexus",
        "delegates": [{"cniVersion": "1.0.0", "name": "cluster", "type": "static"}],
        "manifests": str(manifests),
        "cniDir": str(directory / "state"),
        "readinessindicatorfile": str(directory / "ready"),
        **keys,
    }
    return Request(command=command, container_id="c1", ifname="eth0", netns="/nonexistent").with_conf(data)


@pytest.mark.parametrize(
    ("verb", "error"), [(plugin.add, TryAgainLater), (plugin.gc, TryAgainLater), (plugin.status, PluginUnavailable)]
)
def test_every_verb_that_needs_the_default_network_waits(verb: Any, error: type[Exception], tmp_path: Path):
    with pytest.raises(error, match=f"{tmp_path}/ready"):
        verb(request(verb.__name__, tmp_path, readinessTimeout=0))
    assert not (tmp_path / "state").exists()


def test_status_goes_on_when_the_file_is_there(tmp_path: Path):
    (tmp_path / "ready").touch()
    plugin.status(request("STATUS", tmp_path, readinessTimeout=0))


@pytest.mark.parametrize("file", ["ready", "no/such/directory/ready", "a\0b", 5])
def test_delete_neither_waits_nor_fails_for_it(file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(readiness, "wait", lambda *_: pytest.fail("DEL waits"))
    plugin.delete(request("DEL", tmp_path, readinessindicatorfile=file))
