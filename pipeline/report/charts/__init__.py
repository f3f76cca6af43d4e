"""Figures as SVG for the HTML pages, drawn with matplotlib in one style.

They draw numbers that they are given. May import what `report` may.
"""
