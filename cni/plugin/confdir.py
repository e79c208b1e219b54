"""Network configurations in a directory, found and read as libcni does for a runtime."""

from __future__ import annotations

import os

from cni.plugin import files
from cni.spec import names, netconf
from cni.spec.errors import CNIError, DecodingFailure, InvalidConfiguration, IOFailure
from cni.spec.netconf import NetConf, NetConfList

LIST = (".conflist",)
SINGLE = (".conf", ".json")
DROP_IN = (".conf",)


class NotFound(InvalidConfiguration):
    """The directory holds no configuration, or none of the network."""


def load(directory: str, name: str) -> NetConfList:
    """Read the network `name`: the first `.conflist` of that name, else the first `.conf` or `.json`.

    A file before it that is malformed is an error, as in libcni: it might have been the one. Raises NotFound,
    IOFailure, DecodingFailure, InvalidConfiguration.
    """
    lists = _files(directory, LIST)
    singles = _files(directory, SINGLE)
    for path in lists + singles:
        network = load_file(path)
        if network.name == name:
            return network
    if not lists + singles:
        raise _nothing_in(directory)
    raise NotFound(
        f'no net configuration with name "{name}" in {directory}',
        f"looked in {', '.join(os.path.basename(path) for path in lists + singles)}",
        id="PLX-CONF-MISSING",
    )


def load_default(directory: str) -> NetConfList:
    """Read the lexically first configuration, which container runtimes take as every pod's network.

    Raises NotFound, IOFailure, DecodingFailure, InvalidConfiguration.
    """
    found = paths(directory)
    if not found:
        raise _nothing_in(directory)
    return load_file(found[0])


def paths(directory: str) -> list[str]:
    """Its configurations, in the order in which a runtime takes the first. Raises IOFailure."""
    return _files(directory, LIST + SINGLE)


def load_file(path: str) -> NetConfList:
    """Read a `.conflist` with its drop-in plugins, or a file of any other name as one plugin's configuration.

    Raises IOFailure, DecodingFailure, InvalidConfiguration.
    """
    text = _read(path)
    if not path.endswith(LIST):
        return netconf.parse_single(text, f'"{path}"')
    network = netconf.parse_list(text, f'"{path}"')
    more = () if network.load_only_inlined_plugins else drop_ins(os.path.dirname(path), network.name)
    if more:
        network = network.with_plugins(more)
    if not network.plugins:
        raise InvalidConfiguration(
            "no plugin configs found",
            f'"{path}" has no `plugins`, and there is no .conf file in the directory "{network.name}" beside it',
            id="PLX-CONF",
        )
    return network


def drop_ins(directory: str, network: str) -> tuple[NetConf, ...]:
    """The plugins in the network's own directory, which are appended to its list (libcni 1.3); () without one.

    Raises IOFailure, DecodingFailure, InvalidConfiguration.
    """
    try:
        names.validate_network_name(network)  # what is no name must not become a path
    except CNIError:
        return ()
    own = os.path.join(directory, network)
    paths = _files(own, DROP_IN) if os.path.isdir(own) else []
    return tuple(plugin for path in paths for plugin in netconf.parse_single(_read(path), f'"{path}"').plugins)


def _files(directory: str, extensions: tuple[str, ...]) -> list[str]:
    """The directory's files of these extensions by name; none when it does not exist."""
    try:
        with os.scandir(directory) as entries:
            found = [entry.path for entry in entries if _is_wanted(entry, extensions)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise IOFailure(f'could not read the directory "{directory}"', _reason(error), id="PLX-IO") from error
    return sorted(found, key=os.fsencode)


def _is_wanted(entry: os.DirEntry[str], extensions: tuple[str, ...]) -> bool:
    # The extension is what follows the last dot, in hidden files too.
    return entry.name.endswith(extensions) and not entry.is_dir(follow_symlinks=False)


def _read(path: str) -> str:
    try:
        content = files.read(path)
    except ValueError as error:  # a NUL in a path that comes from a configuration
        raise IOFailure(f'could not read "{path}"', str(error), id="PLX-IO") from error
    if content is None:
        raise IOFailure(f'could not read "{path}"', "No such file or directory", id="PLX-IO")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DecodingFailure(
            f'could not decode "{path}"', f"byte {error.start} is not UTF-8", id="PLX-JSON"
        ) from error


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _nothing_in(directory: str) -> NotFound:
    return NotFound(
        f"no net configurations found in {directory}",
        "a .conflist, .conf or .json file is needed there",
        id="PLX-CONF-MISSING",
    )
