"""Whether the live record still is what the backtest promised, what challenges the champion, and how inputs change.

It reads sealed rows and arrays; it changes no forecast.
"""
