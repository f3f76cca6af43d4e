"""The reports of the nightly run and of the backtest: dataclasses, tables, HTML pages, Markdown and files on disk.

Statistics are computed elsewhere and only presented here. May import every package but `audit` and `backup`.
"""
