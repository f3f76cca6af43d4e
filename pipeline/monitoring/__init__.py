"""Whether the live record still is what the backtest promised, and whether the inputs have changed.

It reads sealed rows and arrays; it changes no forecast.
"""
