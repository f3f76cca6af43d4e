"""The workspace on disk: its layout, whole files or none, locks, small CSV tables in and out.

Nothing here knows what a price or a forecast is. May import `errors`.
"""
