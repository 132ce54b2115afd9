"""Learning schedules: tasks out of models, a cost model that ranks points, a search that measures the promising ones, a database."""
