"""The search: its space, the plan that is drawn from it, the schedule, the driver and its executors."""
