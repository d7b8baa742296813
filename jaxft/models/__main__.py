"""`python -m jaxft.models`: writes the models' page."""

from jaxft.models._reference import PAGE, page

if __name__ == "__main__":  # whoever looks for a family imports this file too
    PAGE.write_text(page(), encoding="utf-8")
