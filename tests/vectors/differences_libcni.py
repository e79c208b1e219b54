"""Where we read configurations otherwise than libcni on purpose, and why: the one place for it.

By case of libcni_load.json: the beginning of our error, after which only details may follow.
"""

from vectors.differences import Difference

JSON = "libcni repeats what Go's decoder says; ours says where the text is broken"
TYPES = "libcni names the types of Go; ours names those of JSON, in the details"

LOAD: dict[str, Difference] = {
    "L05-malformed-earlier-file": Difference(
        "error parsing configuration list: it ends too early, at line 1, column 2: "
        "Expecting property name enclosed in double quotes",
        JSON,
    ),
    "L13-name-type": Difference("error parsing configuration list: invalid name type", TYPES),
    "L15-plugins-type": Difference("error parsing configuration list: invalid 'plugins' type", TYPES),
    "L31-cniVersions-elem-type": Difference(
        "error parsing configuration list: invalid type for cniVersions index 0", TYPES
    ),
}
