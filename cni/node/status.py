"""What is installed on this host, and whether the runtime uses it."""

from __future__ import annotations

import os

from cni.node import entry, keeper, launchers
from cni.node.plan import Plan
from cni.node.uninstall import find_attached
from cni.plugin import files
from cni.spec.errors import InvalidConfiguration


def describe(plan: Plan, state_dir: str) -> str:
    """One line for each thing that was installed."""
    prefix, placed = plan.prefix, plan.prefix.recorded("launcher")
    link = prefix.local("current")
    version = os.path.basename(os.readlink(link)) if os.path.islink(link) else "none"
    primary = entry.find_primary(plan.host.local(plan.entry))
    rows = {
        "version": f"{version} below {prefix.path}",
        "launchers": f"{len(placed)} in {', '.join(sorted({os.path.dirname(path) for path in placed})) or '-'}",
        "entry": f"{plan.entry}, with {primary} in it" if primary else "none",
        "kubeconfig": plan.kubeconfig if os.path.exists(plan.host.local(plan.kubeconfig)) else "none of ours",
        "attached": f"{len(list(find_attached(prefix, state_dir)))} containers",
    }
    if os.path.isdir(plan.host.directory("/run")):  # the agent's container does not see it
        rows["daemon"] = _daemon(plan)
    return "\n".join(f"{name:<11} {value}" for name, value in rows.items())


def _daemon(plan: Plan) -> str:
    path = launchers.socket(plan.prefix.path)
    if keeper.answers(plan.host.local(path)):
        return f"answers at {path}"
    return "none; launchers do the work themselves"


def check(plan: Plan) -> None:
    """Raise InvalidConfiguration unless the runtime uses plexus, and finds it."""
    for path in plan.prefix.recorded("launcher"):
        if not os.path.lexists(plan.host.local(path)):
            raise InvalidConfiguration(f'could not find "{path}"', "it was installed, and is gone", id="PLX-NODE-PATHS")
    if files.read(plan.host.local(plan.entry)) is None:
        raise InvalidConfiguration(
            f'could not find "{plan.entry}"',
            "the runtime does not use plexus yet: is the primary network installed? The agent's log says more",
            id="PLX-NODE-PRIMARY",
        )
    if plan.account is not None and files.read(plan.host.local(plan.kubeconfig)) is None:
        raise InvalidConfiguration(
            f'could not find "{plan.kubeconfig}"', "the agent's log says why", id="PLX-KUBECONFIG"
        )
    plan.check_first()
