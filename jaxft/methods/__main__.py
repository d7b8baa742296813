"""`python -m jaxft.methods`: writes the methods' page."""

from jaxft.methods._reference import PAGE, page

PAGE.write_text(page(), encoding="utf-8")
