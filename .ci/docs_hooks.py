"""What mkdocs does not do by itself: references of docstrings, such as :func:`pyqinfer.convert`, become the name alone."""

import re
from typing import Any

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):\s*<code>~?([\w.]+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Called by mkdocs with the HTML of each page."""
    return _ROLE.sub(lambda match: f"<code>{match[1].rpartition('.')[2]}</code>", html)
