"""What people read: the evening's report and the backtest's, as dataclasses, tables, HTML, Markdown and files on disk.

Statistics are made elsewhere and only laid out here. May import every wing but `audit` and `backup`.
"""
