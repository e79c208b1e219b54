"""Which attachment has the pod's default route, when the pod says so (NPWG standard, section 4.1.2.1.9)."""

from __future__ import annotations

from functools import partial

from cni.linux import netns, routes
from cni.meta.plan import Planned
from cni.spec.model import IPAddress
from cni.spec.result import Result, Route

FAMILIES = (4, 6)


def apply(sandbox: str, wanted: Planned, planned: list[Planned], result: Result) -> Result:
    """Make the default routes on one attachment what the pod asked for; return the result that is then true.

    A family that no attachment asks for is left as the plugins made it. Raises KernelFailure.
    """
    for family in FAMILIES:
        if not any(_claims(other, family) for other in planned):
            continue
        gateways = _gateways(wanted, family)
        if _claims(wanted, family) and not gateways:
            continue  # an empty list: the routes that the plugin made are the wanted ones
        netns.run_inside(sandbox, partial(routes.set_default, wanted.entry.ifname, family, gateways))
        kept = tuple(route for route in result.routes if not (route.is_default and route.family == family))
        result = result.replace(routes=kept + tuple(map(Route.default, gateways)))
    return result


def is_asked(wanted: Planned) -> bool:
    """Whether the pod has said who is to have a default route."""
    return wanted.selection is not None and wanted.selection.default_route is not None


def _claims(wanted: Planned, family: int) -> bool:
    """Whether the attachment is to have the default route of the family: it names a gateway, or gives an empty list."""
    asked = wanted.selection.default_route if wanted.selection else None
    return asked is not None and (not asked or bool(_gateways(wanted, family)))


def _gateways(wanted: Planned, family: int) -> list[IPAddress]:
    asked = (wanted.selection.default_route or ()) if wanted.selection else ()
    return [gateway for gateway in asked if gateway.version == family]
