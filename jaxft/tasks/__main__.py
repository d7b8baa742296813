"""`python -m jaxft.tasks`: writes the tasks' page."""

from jaxft.tasks._reference import PAGE, page

if __name__ == "__main__":  # whoever looks for tasks imports this file too
    PAGE.write_text(page(), encoding="utf-8")
