"""Schedules: how one tensor program becomes loops for one machine."""
