"""The site of a universe: a page on the whole record and one on each symbol, rebuilt every evening where it changed.

It measures nothing by itself: scores, intervals and tests come from `pipeline.evaluation`.
"""
