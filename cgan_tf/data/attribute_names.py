"""Which names attributes may have: they become file names and parts of flags."""

import unicodedata
from collections.abc import Iterable

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import name_key

# Separators of paths, of --edit, --attributes and --directions_condition.
FORBIDDEN = set("/\\,=:+")
LONGEST = 100  # bytes in UTF-8; a file name of 255 holds it with every prefix and ending


def check_names(names: Iterable[str], table: str) -> None:
    """Checks the names before anything is trained or written.

    Args:
        names: of the attributes.
        table: what names them, the beginning of the error.

    Raises:
        UserError: a name that no file could have, or two that are one file where a file system
            ignores case or stores accents in another form.
    """
    known: dict[str, str] = {}
    for name in names:
        if (
            not name
            or name.startswith(".")
            or set(name) & FORBIDDEN
            or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
        ):
            raise UserError(
                f"{table}: {name!r} cannot be an attribute's name; use letters, digits and _"
            )
        if len(name.encode()) > LONGEST:
            raise UserError(
                f"{table}: the attribute {name[:20]}... has {len(name.encode())} bytes; shorten "
                f"it to {LONGEST}"
            )
        other = known.setdefault(name_key(name), name)
        if other != name:
            raise UserError(f"{table}: {other} and {name} differ only in case; rename one of them")
