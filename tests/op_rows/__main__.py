"""Write golden.json."""

from op_rows import GOLDEN, document

GOLDEN.write_text(document())
