"""Writes handbook.pdf, which the RAG example reads: three pages about a lighthouse that was invented for it.

pip install fpdf2; python examples/data/make_handbook.py
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF

HANDBOOK = """
# The Brennick Lighthouse

The Brennick lighthouse was built in 1874 by the engineer Ada Corrigan. It took four years, because stone could only be
landed on the island at low tide.

The tower is 41 metres high. A spiral staircase of 212 steps leads to the lamp room, and there is no lift.

The lamp burned whale oil at first, then paraffin, and has been electric since 1931. Its light can be seen from 19
nautical miles away.

The lighthouse flashes twice every fifteen seconds. Sailors call it the Winking Widow for that reason.

# Visiting

A ferry called the Kittiwake leaves Port Sallow for the island every morning at nine o'clock. The crossing takes 35
minutes. There is no ferry on Mondays.

A ticket for the tower costs six pounds. Children under twelve go up for free, but must hold an adult's hand on the
stairs.

Dogs are not allowed on the island from April to July, because puffins nest in the grass beside the path.

The tea room in the old oil store sells scones and fish soup. It closes at four o'clock in the afternoon.

# The Keepers

The last keeper, Tomas Wren, left in 1988 when the lamp was automated. He had lived on the island for 23 years with his
wife and a goat named Biscuit.

Keepers wrote the weather into a logbook every three hours. All 114 logbooks survived, and climate researchers have
copied them into a database.

In the great storm of 1903 a wave broke the glass of the lamp room. The keepers lit a bonfire on the rocks, and the
steamer Orsino with its 60 passengers came home safely.

Today a volunteer spends each winter in the keeper's cottage. Applications are read by the Brennick Trust in September.
"""


def main() -> None:
    """Write the file beside this one."""
    pdf = FPDF(format=(148, 210))
    # The date is fixed, so that the file stays the same.
    pdf.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
    pdf.set_title("The Brennick Lighthouse: a handbook for visitors")
    for paragraph in (" ".join(text.split()) for text in HANDBOOK.strip().split("\n\n")):
        if paragraph.startswith("# "):
            pdf.add_page()
            pdf.set_font("helvetica", "B", 16)
        else:
            pdf.ln(3)
            pdf.set_font("helvetica", size=11)
        pdf.multi_cell(0, 6, paragraph.removeprefix("# "), new_x="LMARGIN", new_y="NEXT")
    pdf.output(str(Path(__file__).with_name("handbook.pdf")))


if __name__ == "__main__":
    main()
