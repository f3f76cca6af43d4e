"""The JSON documents of reports and commands, and their schema: pydantic models, and what fills them.

May import the same packages as `report`; no statistics, nothing is printed here.
"""
