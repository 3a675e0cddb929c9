"""Recordings analysed as a whole: their frames one after another, a report, the same drawn into them."""
