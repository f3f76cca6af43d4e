"""How good forecasts were, and how sure that is: scores with intervals and baselines, the verdict, subgroups.

Whatever takes frames of forecasts with their outcomes belongs here; it draws nothing and writes no page. May import
`features`, `statistics`, `formatting`, `storage` and the ground floor.
"""
