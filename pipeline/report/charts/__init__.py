"""Figures as SVG for the HTML pages, drawn with matplotlib in one style.

They only draw numbers that are computed elsewhere. May import what `report` may.
"""
